// The preprocessing of a bundle: backbones/preprocess.py and Pillow's resampling (src/libImaging/Resample.c) in the
// same 8-bit fixed point, so that a pixel here is the pixel there. A canvas resizes by rules of its browser's.
"use strict";
const resampling = (() => {
  const PRECISION = 2 ** 22; // as Pillow's: 32 bits, less 8 of the result and 2 for sums that leave it
  const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
  const FILTERS = {
    bilinear: [1, (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0)],
    bicubic: [
      2,
      (signed) => {
        const x = Math.abs(signed);
        if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
      },
    ],
    lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
  };

  /** For each of `size` outputs over start..end of `length` inputs: where its inputs begin, and their weights. */
  function weights(length, start, end, size, [reach, filter]) {
    const scale = Math.fround(end - start) / size; // as Pillow, whose box is in single precision
    const widened = Math.max(scale, 1);
    const support = reach * widened;
    const narrowed = 1 / widened; // a product, as Pillow's: of ties the last bit decides
    return Array.from({ length: size }, (_, at) => {
      const centre = start + (at + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - support + 0.5));
      const last = Math.min(length, Math.trunc(centre + support + 0.5));
      const found = Array.from({ length: last - first }, (_, k) => filter((k + first - centre + 0.5) * narrowed));
      const sum = found.reduce((a, b) => a + b, 0);
      const whole = found.map((w) => Math.trunc((w / sum) * PRECISION + (w / sum < 0 ? -0.5 : 0.5)));
      return { first, taps: Int32Array.from(whole) };
    });
  }

  const clip = (sum) => Math.min(255, Math.max(0, Math.floor(sum / PRECISION)));

  /** One pass over lines: `lines` of them from `skip` on, each put to the places that `table` gives. */
  function pass(pixels, table, lines, [alongIn, acrossIn], [alongOut, acrossOut], skip, out) {
    for (let line = 0; line < lines; line += 1) {
      for (let at = 0; at < table.length; at += 1) {
        const { first, taps } = table[at];
        let [red, green, blue] = [PRECISION / 2, PRECISION / 2, PRECISION / 2];
        let from = (line + skip) * acrossIn + first * alongIn;
        for (let k = 0; k < taps.length; k += 1, from += alongIn) {
          red += pixels[from] * taps[k];
          green += pixels[from + 1] * taps[k];
          blue += pixels[from + 2] * taps[k];
        }
        const to = line * acrossOut + at * alongOut;
        out[to] = clip(red);
        out[to + 1] = clip(green);
        out[to + 2] = clip(blue);
      }
    }
    return out;
  }

  const plain = ({ width, height, data }) => ({ width, height, data }); // an ImageData has no fields to spread

  /** As Image.resize(size, filter, box) of an RGB image {width, height, data: RGBA}. Alpha is not looked at. */
  function resize(image, [width, height], name, box = [0, 0, image.width, image.height]) {
    const [left, top, right, bottom] = box.map(Math.fround);
    if (name === "nearest") return nearest(image, [width, height], [left, top, right, bottom]);
    const across = weights(image.width, left, right, width, FILTERS[name]);
    const down = weights(image.height, top, bottom, height, FILTERS[name]);
    const shrinks = image.height - height;
    const passes = [
      width !== image.width || left !== 0 || right !== width ? (each) => horizontal(each, across, down) : null,
      height !== image.height || top !== 0 || bottom !== height ? (each) => vertical(each, down) : null,
    ];
    // Pillow's own rule since 13; each pass rounds, so the order shows in the bytes.
    if (shrinks > 0 && shrinks > 2 * (image.width - width)) passes.reverse();
    return passes.filter(Boolean).reduce((each, run) => run(each), { ...plain(image), skipped: 0 });
  }

  /** Scale the rows that the pass down reads, or has left. */
  function horizontal({ width: length, height, data, skipped, scaled }, table, down) {
    const first = scaled ? 0 : down[0].first;
    const rows = scaled ? height : down.at(-1).first + down.at(-1).taps.length - first;
    const width = table.length;
    const out = new Uint8ClampedArray(4 * width * rows);
    pass(data, table, rows, [4, 4 * length], [4, 4 * width], first, out);
    return { width, height: rows, data: out, skipped: skipped + first };
  }

  function vertical({ width, data, skipped }, down) {
    const table = down.map(({ first, taps }) => ({ first: first - skipped, taps }));
    const out = new Uint8ClampedArray(4 * width * table.length);
    pass(data, table, width, [4 * width, 4], [4 * width, 4], 0, out);
    return { width, height: table.length, data: out, skipped: 0, scaled: true };
  }

  function nearest(image, [width, height], [left, top, right, bottom]) {
    const data = new Uint8ClampedArray(4 * width * height);
    // Places add up step by step, as Pillow's do: of ties the last bit decides.
    const places = (start, step, size) => {
      let at = start + step * 0.5;
      return Array.from({ length: size }, () => {
        const place = Math.trunc(at);
        at += step;
        return place;
      });
    };
    const columns = places(left, (right - left) / width, width);
    for (const [y, row] of places(top, (bottom - top) / height, height).entries()) {
      for (const [x, column] of columns.entries()) {
        const from = 4 * (row * image.width + column);
        data.set(image.data.subarray(from, from + 3), 4 * (y * width + x));
      }
    }
    return { width, height, data };
  }

  /** Python's round: a half goes to the even neighbour. */
  function round(value) {
    const below = Math.floor(value);
    if (value - below !== 0.5) return Math.round(value);
    return below % 2 === 0 ? below : below + 1;
  }

  /** The part of an image from left, top on, size by size; what lies outside is black, as Pillow's. */
  function cut(image, left, top, size) {
    const data = new Uint8ClampedArray(4 * size * size);
    for (let y = Math.max(0, -top); y < size && y + top < image.height; y += 1) {
      for (let x = Math.max(0, -left); x < size && x + left < image.width; x += 1) {
        const from = 4 * ((y + top) * image.width + x + left);
        data.set(image.data.subarray(from, from + 3), 4 * (y * size + x));
      }
    }
    return { width: size, height: size, data };
  }

  function crop(image, { size, resize: asked, interpolation, version }) {
    const { width, height } = image;
    const short = Math.min(width, height);
    const target = Math.max(asked ?? Math.max(short, size), size);
    if (short === target) return cut(image, round((width - size) / 2), round((height - size) / 2), size);
    const scaled =
      width <= height
        ? [target, Math.trunc((target * height) / width)]
        : [Math.trunc((target * width) / height), target];
    const [left, top] = scaled.map((side) => round((side - size) / 2));
    if (version === 1 && scaled[0] * scaled[1] <= 2 ** 24) {
      return cut(resize(image, scaled, interpolation), left, top, size);
    }
    const [across, down] = [width / scaled[0], height / scaled[1]];
    const box = [left * across, top * down, (left + size) * across, (top + size) * down];
    return resize(image, [size, size], interpolation, box);
  }

  function pad(image, { size, interpolation, mean }) {
    const scale = size / Math.max(image.width, image.height);
    const scaled = [image.width, image.height].map((side) => Math.max(1, round(side * scale)));
    const small = resize(image, scaled, interpolation);
    const data = new Uint8ClampedArray(4 * size * size);
    const colour = mean.map((channel) => round(255 * channel));
    for (let at = 0; at < data.length; at += 4) data.set(colour, at);
    const [left, top] = scaled.map((side) => Math.floor((size - side) / 2));
    for (let y = 0; y < scaled[1]; y += 1) {
      const row = small.data.subarray(4 * y * scaled[0], 4 * (y + 1) * scaled[0]);
      data.set(row, 4 * ((y + top) * size + left));
    }
    return { width: size, height: size, data };
  }

  /** {width, height, data: RGBA of an upright, opaque image} → the network's input, size × size × 3 bytes. */
  function prepare(image, rules) {
    const { size, fit, interpolation } = rules;
    const whole = image.width === size && image.height === size;
    const squash = () => (whole ? image : resize(image, [size, size], interpolation));
    const { data } = { crop: () => crop(image, rules), pad: () => pad(image, rules), squash }[fit]();
    const pixels = new Uint8Array(3 * size * size);
    for (let at = 0; at < size * size; at += 1) {
      pixels[3 * at] = data[4 * at];
      pixels[3 * at + 1] = data[4 * at + 1];
      pixels[3 * at + 2] = data[4 * at + 2];
    }
    return pixels;
  }

  /** The means of squares of `scale` pixels: nearly what a JPEG decoder gives that is asked for a part of the size. */
  function reduce(image, scale) {
    const [width, height] = [Math.ceil(image.width / scale), Math.ceil(image.height / scale)];
    const data = new Uint8ClampedArray(4 * width * height);
    for (let to = 0; to < data.length; to += 1) {
      const [x, y] = [(to >> 2) % width, Math.floor((to >> 2) / width)].map((place) => place * scale);
      let sum = 0;
      for (let down = 0; down < scale; down += 1) {
        const row = Math.min(y + down, image.height - 1) * image.width;
        for (let across = 0; across < scale; across += 1) {
          sum += image.data[4 * (row + Math.min(x + across, image.width - 1)) + (to & 3)];
        }
      }
      data[to] = Math.round(sum / scale ** 2);
    }
    return { width, height, data };
  }

  /** A decoded JPEG at the scale at which headway would have read it (data/images.py). */
  function drafted(image, shortest) {
    const times = Math.floor(Math.min(image.width, image.height) / shortest);
    const scale = [8, 4, 2].find((each) => times >= each);
    return scale ? reduce(image, scale) : image;
  }

  return { prepare, drafted };
})();
