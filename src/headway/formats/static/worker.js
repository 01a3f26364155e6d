// The thread in which an exported page computes: decode → prepare → onnxruntime-web → what the numbers say.
// It gets {ort, wasm, model, facts} once, then {id, file}; it answers {id, content} or {id, code, message}.
"use strict";
let bundle = null;
let ready = null;

/** The session, after it gave the bundle's own numbers for the golden images. */
async function open({ ort: source, wasm, model, facts }) {
  bundle = facts;
  const ort = await import(source);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // more need a server that isolates the page
  const session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  const run = async (pixels) => {
    const { size } = facts.preprocess;
    const found = await session.run({ image: new ort.Tensor("uint8", pixels, [1, size, size, 3]) });
    return { logits: found.logits.data, features: found.features.data };
  };
  for (const { pixels, logits } of facts.golden) {
    const found = (await run(pixels)).logits;
    const { probability, logit } = facts.tolerances;
    const off = farthest(logits, found) / Math.max(1, ...logits.map(Math.abs));
    const told = farthest(probabilities(logits), probabilities(found));
    if (!(off <= logit && told <= probability)) throw new Error(`golden images differ by ${told.toExponential(1)}`);
  }
  return run;
}

const farthest = (some, others) => Math.max(...some.map((value, at) => Math.abs(value - others[at])));

const STARTS = ["ffd8ff", "89504e470d0a1a0a", "474946383761", "474946383961", "424d"];

function known(bytes) {
  const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return STARTS.some((start) => text.startsWith(start)) || /^52494646.{8}57454250/.test(text);
}

/** The file as RGBA, upright, without its colour profile, on white: the rules of data/images.py. */
async function decode(file) {
  const start = new Uint8Array(await file.slice(0, 16).arrayBuffer());
  if (!known(start)) throw { code: "not_an_image" };
  const rules = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, rules).catch(() => {
    throw { code: "damaged_image" };
  });
  const { width, height } = bitmap;
  if (width * height > bundle.max_pixels) throw { code: "too_many_pixels" };
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const image = context.getImageData(0, 0, width, height);
  return start[0] === 0xff ? resampling.drafted(image, bundle.draft) : image;
}

function probabilities(logits) {
  const largest = Math.max(...logits);
  const shares = Array.from(logits, (value) => Math.exp((value - largest) / bundle.temperature));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / sum);
}

/** How strange: deployment/unknown.py. Matrices lie in rows. */
function strangeness(features, logits) {
  const { n, centre, scale, axes, widths, whiten, means, spread, scores, ranks, level } = bundle.unknown;
  const rank = widths.length;
  const product = (matrix, vector, rows) =>
    Array.from({ length: rows }, (_, row) =>
      vector.reduce((sum, value, at) => sum + value * matrix[row * vector.length + at], 0),
    );
  const squares = (vector) => vector.reduce((sum, value) => sum + value * value, 0);
  const place = Array.from(features, (value, at) => (value - centre[at]) * scale[at]);
  const along = product(axes, place, rank);
  const turned = product(whiten, along, rank);
  const near = Array.from({ length: means.length / rank }, (_, at) => {
    const mean = Array.from(means.subarray(at * rank, (at + 1) * rank));
    return squares(mean) - 2 * mean.reduce((sum, value, axis) => sum + value * turned[axis], 0);
  });
  const relative = Math.min(...near) + squares(turned) - squares(along.map((value, axis) => value * widths[axis]));
  const far = Math.log(Math.max(squares(place) - squares(along), 0) + bundle.unknown.tiny) / 2;
  const parts = [-Math.max(...logits), relative, far].map((part, at) => (part - spread[2 * at]) / spread[2 * at + 1]);
  const [w_logit, w_relative, w_far, surest, farthest] = bundle.unknown.weights;
  const doubt = Math.max(w_logit * parts[0] + w_relative * parts[1], surest);
  const score = doubt + w_far * Math.exp(Math.min(parts[2], farthest));
  const below = scores.filter((known) => known < score).length;
  const rate = (n - (below ? ranks[below - 1] : 0) + 1) / (n + 1);
  return { flag: rate <= level, rate, score };
}

/** The answer as a server gives it (deployment/predictor.py). */
function conclude({ logits, features }) {
  const shares = probabilities(logits);
  const best = shares.map((_, at) => at).sort((a, b) => shares[b] - shares[a] || a - b);
  const named = (at) => ({ label: bundle.classes[at], probability: shares[at] });
  const answer = { ...named(best[0]), top: best.slice(0, 5).map(named), logits: Array.from(logits) };
  if (bundle.threshold !== null) {
    const members = best.filter((at) => at === best[0] || 1 - shares[at] <= bundle.threshold);
    answer.set = members.map((at) => bundle.classes[at]);
  }
  if (bundle.unknown) answer.unknown = strangeness(features, logits);
  return answer;
}

onmessage = async ({ data }) => {
  if (data.facts) {
    ready = open(data);
    ready.catch(() => {}); // told to whoever asks
    return;
  }
  try {
    const pixels = resampling.prepare(await decode(data.file), bundle.preprocess);
    const run = await ready.catch((error) => {
      throw { code: "broken", message: `The model does not run in this browser: ${error.message}` };
    });
    postMessage({ id: data.id, content: { predictions: [conclude(await run(pixels))] } });
  } catch (error) {
    const message = error.code ? error.message : `The image could not be looked at: ${error.message}`;
    postMessage({ id: data.id, code: error.code ?? "failed", message });
  }
};
