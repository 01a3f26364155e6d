/* A network of convolutions on one core, image after image or in groups. Steps, maps and weights come from Python. */
#include "lanes.h"
#include "plan.h"
#include "dense.h"
#include "winograd.h"

#define PIXELS_AT_ONCE 7 /* of a depthwise convolution, so that a weight is read once for them */

typedef struct { int height, width, stride; long apart; } Window; /* apart: numbers from a pixel to the next */

INLINE void depthwise_pixels(const int pixels, const Window window, const float *in, long row, float *out,
                             long out_apart, const float *weights, Lanes bias, Bounds bound) {
  Lanes sums[PIXELS_AT_ONCE];
#pragma GCC unroll 8
  for (int x = 0; x < pixels; x++) sums[x] = bias;
  for (int i = 0; i < window.height; i++, in += row, weights += window.width * LANES)
#pragma GCC unroll 5
    for (int j = 0; j < window.width; j++)
#pragma GCC unroll 8
      for (int x = 0; x < pixels; x++) {
        const float *at = in + (x * window.stride + j) * window.apart;
        sums[x] = plus_product(sums[x], load(at), load(weights + j * LANES));
      }
#pragma GCC unroll 8
  for (int x = 0; x < pixels; x++) store(out + x * out_apart, within(sums[x], bound));
}

/* Rows `from` to `to` of the channels `first` and after, which stand in the source from its own channel 0 on. */
INLINE void depthwise_windows(const Window window, const Step *step, const Map *source, const float *in,
                              const Map *target, float *out, int first, int channels, int from, int to) {
  const Bounds bound = bounds(step->low, step->high);
  const long jump = window.stride * window.apart, wide = target->channels, row = source->row;
  const int width = target->width;
  in -= step->top * row + step->left * window.apart;
  for (int y = from; y < to; y++)
    for (int c = 0; c < channels; c += LANES) {
      const float *weights = step->weights + (long)(first + c) * window.height * window.width;
      const float *seen = in + (long)y * window.stride * row + c;
      float *to_row = out + y * target->row + first + c;
      Lanes bias = load(step->bias + first + c);
      int x = 0;
      for (; x + PIXELS_AT_ONCE <= width; x += PIXELS_AT_ONCE)
        depthwise_pixels(PIXELS_AT_ONCE, window, seen + x * jump, row, to_row + x * wide, wide, weights, bias, bound);
      for (; x < width; x++)
        depthwise_pixels(1, window, seen + x * jump, row, to_row + x * wide, wide, weights, bias, bound);
    }
}

#define WINDOW(height, width, stride, apart)                                                                         \
  depthwise_windows((Window){height, width, stride, apart}, step, source, in, target, out, first, channels, from, to)

/* The same, by code of its own for the usual windows on a panel of channels: all that it adds to addresses is known. */
static void depthwise_rows(const Step *step, const Map *source, const float *in, const Map *target, float *out,
                           int first, int channels, int from, int to) {
  switch (source->channels == PANEL && step->height == step->width ? step->height * 10 + step->stride : 0) {
    case 31: WINDOW(3, 3, 1, PANEL); break;
    case 32: WINDOW(3, 3, 2, PANEL); break;
    case 51: WINDOW(5, 5, 1, PANEL); break;
    case 52: WINDOW(5, 5, 2, PANEL); break;
    default: WINDOW(step->height, step->width, step->stride, source->channels);
  }
}

/* A band of rows of one panel of channels: the convolution `step`, then the depthwise one after it. `rows` holds what
   stands between them, `y` and up to `last` are rows of `target`. */
static void expand_panel(const Step *step, const Map *source, const float *in, const Map *between, float *rows,
                         const Map *target, float *out, int panel, int y, int last) {
  const Step *next = step + 1;
  int channels = target->channels - panel < PANEL ? target->channels - panel : PANEL, column = PANEL - channels;
  int top = y * next->stride - next->top, below = (last - 1) * next->stride - next->top + next->height, from = top;
  int band = (between->rows - next->height) / next->stride + 1, on = band * next->stride;
  size_t bytes = sizeof(float) * between->width * between->channels;
  for (int r = 0; y && r < next->height - next->stride; r++, from++) /* the band before has these at its end */
    memcpy(rows + r * between->row, rows + (on + r) * between->row, bytes);
  for (int r = from; r < below; r++) /* over the edges */
    if (r < 0 || r >= between->height) memset(rows + (r - top) * between->row, 0, bytes);
  if (from < 0) from = 0;
  if (from > between->height) from = between->height;
  dense_rows(step, source, in, between, rows - top * between->row, column, 0, 0, panel, from,
             below < between->height ? below : between->height);
  depthwise_rows(next, between, rows - top * between->row + column, target, out, panel, channels, y, last);
}

/* A convolution to many channels, the depthwise one after it and, in a BLOCK, the one of 1 x 1 after that, a band of
   rows at a time: what stands between them never leaves the cache. */
static void expand(const Plan *plan, const Step *step, long image, long first) {
  const Step *next = step + 1, *end = step->kind == BLOCK ? step + 2 : next;
  const Map *source = plan->maps + step->source, *between = plan->maps + step->target;
  const Map *seen = plan->maps + next->target, *target = plan->maps + end->target;
  const Map *added = end->added < 0 ? 0 : plan->maps + end->added;
  const float *in = at(source, image, first), *more = added ? at(added, image, first) : 0;
  float *out = at(target, image, first);
  int band = (between->rows - next->height) / next->stride + 1;
  long apart = band < seen->height ? between->image : 0; /* rows of a panel are needed again for its next band alone */
  for (int y = 0; y < seen->height; y += band) {
    int last = y + band < seen->height ? y + band : seen->height;
    float *to = end > next ? seen->pixels - y * seen->row : out;
    for (int panel = 0; panel < seen->channels; panel += PANEL)
      expand_panel(step, source, in, between, between->pixels + panel / PANEL * apart, seen, to, panel, y, last);
    for (int panel = 0; end > next && panel < target->channels; panel += PANEL)
      dense_rows(end, seen, to, target, out, panel, added, more, panel, y, last);
  }
}

/* The largest, or the average, of a window; what is over the edge does not count. */
INLINE void pool(const int average, const Step *step, const Map *source, const float *in, const Map *target,
                 float *out) {
  const Bounds bound = bounds(step->low, step->high);
  for (int y = 0; y < target->height; y++)
    for (int x = 0; x < target->width; x++) {
      int top = y * step->stride - step->top, left = x * step->stride - step->left;
      int below = top + step->height < source->height ? top + step->height : source->height;
      int right = left + step->width < source->width ? left + step->width : source->width;
      if (top < 0) top = 0;
      if (left < 0) left = 0;
      float *to = out + y * target->row + (long)x * target->channels, seen = (float)((below - top) * (right - left));
      for (int c = 0; c < target->channels; c += LANES) {
        Lanes found = every(average ? 0 : -INFINITY);
        for (int i = top; i < below; i++)
          for (int j = left; j < right; j++) {
            Lanes value = load(in + i * source->row + (long)j * source->channels + c);
            found = average ? found + value : greater(found, value);
          }
        store(to + c, within(average ? found / seen : found, bound));
      }
    }
}

#define SUMS 4 /* side by side, none of which waits for another */

INLINE Lanes away(Lanes value, Lanes centre, const int squared) {
  return squared ? (value - centre) * (value - centre) : value;
}

/* The mean over height and width; or the mean square around `centre`. Sums of rows first: less is lost. */
INLINE void mean(const int squared, const Map *source, const float *in, const float *centre, float *out) {
  const float all = (float)source->height * (float)source->width;
  const long apart = source->channels, wide = source->width;
  for (int c = 0; c < apart; c += LANES) {
    Lanes sum = every(0), middle = squared ? load(centre + c) : sum;
    for (int y = 0; y < source->height; y++) {
      const float *row = in + y * source->row + c;
      Lanes sums[SUMS] = {0};
      long x = 0;
      for (; x + SUMS <= wide; x += SUMS)
#pragma GCC unroll 4
        for (int i = 0; i < SUMS; i++) sums[i] += away(load(row + (x + i) * apart), middle, squared);
      for (; x < wide; x++) sums[0] += away(load(row + x * apart), middle, squared);
      sum += (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
    store(out + c, sum / all);
  }
}

static void deviation(const Map *source, const float *in, float *out, float *room) {
  mean(0, source, in, 0, room);
  mean(1, source, in, room, out);
  for (int c = 0; c < source->channels; c++) out[c] = sqrtf(out[c]);
}

static void sum(const Step *step, const Map *source, const float *in, const Map *added, const float *more,
                const Map *target, float *out) {
  const Bounds bound = bounds(step->low, step->high);
  for (int y = 0; y < target->height; y++)
    for (long x = 0; x < (long)target->width * target->channels; x += LANES) {
      Lanes value = load(in + y * source->row + x);
      if (more) value += load(more + y * added->row + x);
      store(out + y * target->row + x, within(value, bound));
    }
}

typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

/* (height, width, 3) of 0 to 255 → (value - mean) / deviation; weights: 3 means, 3 deviations. */
static void pixels(const Step *step, const uint8_t *image, const Map *target, float *out) {
  const long wide = 3L * target->width;
  Lanes means[3], deviations[3]; /* of three registers of values, one colour after the other */
  for (int i = 0; i < 3 * LANES; i++) {
    means[i / LANES][i % LANES] = step->weights[i % 3];
    deviations[i / LANES][i % LANES] = step->weights[3 + i % 3];
  }
  for (int y = 0; y < target->height; y++, out += target->row, image += wide) {
    long x = 0;
    for (; x + 3 * LANES <= wide; x += 3 * LANES)
#pragma GCC unroll 3
      for (int v = 0; v < 3; v++) {
        Lanes values = __builtin_convertvector(*(const Bytes *)(image + x + v * LANES), Lanes);
        store(out + x + v * LANES, (values - means[v]) / deviations[v]);
      }
    for (; x < wide; x++) out[x] = ((float)image[x] - step->weights[x % 3]) / step->weights[3 + x % 3];
  }
}

static void one(const Plan *plan, const Step *step, long image, long first, const uint8_t *images) {
  const Map *source = plan->maps + step->source, *target = plan->maps + step->target;
  const Map *added = step->added < 0 ? 0 : plan->maps + step->added;
  const float *in = at(source, image, first), *more = added ? at(added, image, first) : 0;
  float *out = at(target, image, first);
  switch (step->kind) {
    case PIXELS: pixels(step, images + image * target->height * target->width * 3, target, out); break;
    case DENSE: dense(step, source, in, target, out, added, more); break;
    case EXPAND:
    case BLOCK: expand(plan, step, image, first); break;
    case DEPTHWISE:
      depthwise_rows(step, source, in, target, out, 0, target->channels, 0, target->height);
      break;
    case LARGEST: pool(0, step, source, in, target, out); break;
    case AVERAGE: pool(1, step, source, in, target, out); break;
    case MEAN: mean(0, source, in, 0, out); break;
    case DEVIATION: deviation(source, in, out, plan->room); break;
    case SUM: sum(step, source, in, added, more, target, out); break;
  }
}

/* (n, side, side, 3) images; the answers stand in the maps that are whole. */
void headway_run(const Plan *plan, const uint8_t *images, long n) {
  for (const Span *span = plan->spans; span < plan->spans + plan->count; span++)
    for (long first = 0; first < n; first += span->group) {
      long now = n - first < span->group ? n - first : span->group;
      for (const Step *step = plan->steps + span->from; step < plan->steps + span->to; step++) {
        if (step->kind == WINOGRAD) winograd(plan, step, first, now);
        else
          for (long image = first; image < first + now; image++) one(plan, step, image, first, images);
        step += step->kind == BLOCK ? 2 : step->kind == EXPAND; /* these were done with it */
      }
    }
}

int headway_lanes(void) { return LANES; }
