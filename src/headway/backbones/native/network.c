/* A network of convolutions on one core, image after image or in groups. Steps, maps and weights come from Python. */
#include "lanes.h"
#include "plan.h"
#include "dense.h"
#include "winograd.h"

#define PIXELS_AT_ONCE 7 /* of a depthwise convolution, so that a weight is read once for them */

INLINE void depthwise_pixels(const int pixels, const Step *step, const float *in, long row, long apart, float *out,
                             long out_apart, const float *weights, Lanes bias) {
  Lanes sums[PIXELS_AT_ONCE];
#pragma GCC unroll 8
  for (int x = 0; x < pixels; x++) sums[x] = bias;
  for (int i = 0; i < step->height; i++, in += row)
    for (int j = 0; j < step->width; j++, weights += LANES) {
      Lanes weight = load(weights);
#pragma GCC unroll 8
      for (int x = 0; x < pixels; x++) sums[x] += weight * load(in + (x * step->stride + j) * apart);
    }
#pragma GCC unroll 8
  for (int x = 0; x < pixels; x++) store(out + x * out_apart, within(sums[x], step->low, step->high));
}

/* Rows `from` to `to` of the channels `first` and after, which stand in the source from its own channel 0 on. */
static void depthwise_rows(const Step *step, const Map *source, const float *in, const Map *target, float *out,
                           int first, int channels, int from, int to) {
  long jump = (long)step->stride * source->channels;
  in -= step->top * source->row + (long)step->left * source->channels;
  for (int y = from; y < to; y++)
    for (int c = 0; c < channels; c += LANES) {
      const float *weights = step->weights + (long)(first + c) * step->height * step->width;
      const float *row = in + (long)y * step->stride * source->row + c;
      float *to_row = out + y * target->row + first + c;
      Lanes bias = load(step->bias + first + c);
      int x = 0;
      for (; x + PIXELS_AT_ONCE <= target->width; x += PIXELS_AT_ONCE)
        depthwise_pixels(PIXELS_AT_ONCE, step, row + x * jump, source->row, source->channels,
                         to_row + (long)x * target->channels, target->channels, weights, bias);
      for (; x < target->width; x++)
        depthwise_pixels(1, step, row + x * jump, source->row, source->channels, to_row + (long)x * target->channels,
                         target->channels, weights, bias);
    }
}

/* A convolution of 1 x 1 to many channels and the depthwise one after it, a panel of channels and a band of rows at a
   time: what stands between them never leaves the cache. The map between holds the rows that one band sees. */
static void expand(const Plan *plan, const Step *step, const Step *next, long image, long first) {
  const Map *source = plan->maps + step->source, *between = plan->maps + step->target;
  const Map *target = plan->maps + next->target;
  const float *in = at(source, image, first);
  float *out = at(target, image, first), *rows = between->pixels;
  int band = (between->height - next->height) / next->stride + 1, on = band * next->stride;
  size_t bytes = sizeof(float) * between->width * between->channels;
  int seen_again = next->height > next->stride ? next->height - next->stride : 0;
  for (int panel = 0; panel < target->channels; panel += PANEL) {
    int channels = target->channels - panel < PANEL ? target->channels - panel : PANEL, column = PANEL - channels;
    for (int y = 0; y < target->height; y += band) {
      int last = y + band < target->height ? y + band : target->height;
      int top = y * next->stride - next->top, below = (last - 1) * next->stride - next->top + next->height;
      int from = top;
      for (int r = 0; y && r < seen_again; r++, from++)
        memcpy(rows + r * between->row, rows + (on + r) * between->row, bytes);
      for (int r = from; r < below; r++) /* over the edges */
        if (r < 0 || r >= source->height) memset(rows + (r - top) * between->row, 0, bytes);
      if (from < 0) from = 0;
      if (from > source->height) from = source->height;
      dense_rows(step, source, in, between, rows - top * between->row, column, 0, 0, panel, from,
                 below < source->height ? below : source->height);
      depthwise_rows(next, between, rows - top * between->row + column, target, out, panel, channels, y, last);
    }
  }
}

/* The largest, or the average, of a window; what is over the edge does not count. */
INLINE void pool(const int average, const Step *step, const Map *source, const float *in, const Map *target,
                 float *out) {
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
        store(to + c, within(average ? found / seen : found, step->low, step->high));
      }
    }
}

/* The mean over height and width; or, around `centre`, the mean square. Sums of rows first: less is lost. */
static void mean(const Map *source, const float *in, const float *centre, float *out) {
  float all = (float)source->height * (float)source->width;
  for (int c = 0; c < source->channels; c += LANES) {
    Lanes sum = every(0), middle = centre ? load(centre + c) : sum;
    for (int y = 0; y < source->height; y++) {
      Lanes row = every(0);
      for (int x = 0; x < source->width; x++) {
        Lanes value = load(in + y * source->row + (long)x * source->channels + c);
        row += centre ? (value - middle) * (value - middle) : value;
      }
      sum += row;
    }
    store(out + c, sum / all);
  }
}

static void deviation(const Map *source, const float *in, float *out, float *room) {
  mean(source, in, 0, room);
  mean(source, in, room, out);
  for (int c = 0; c < source->channels; c++) out[c] = sqrtf(out[c]);
}

static void sum(const Step *step, const Map *source, const float *in, const Map *added, const float *more,
                const Map *target, float *out) {
  for (int y = 0; y < target->height; y++)
    for (long x = 0; x < (long)target->width * target->channels; x += LANES) {
      Lanes value = load(in + y * source->row + x);
      if (more) value += load(more + y * added->row + x);
      store(out + y * target->row + x, within(value, step->low, step->high));
    }
}

/* (height, width, 3) of 0 to 255 → (value - mean) / deviation; weights: 3 means, 3 deviations. */
static void pixels(const Step *step, const uint8_t *image, const Map *target, float *out) {
  float table[3][256];
  for (int c = 0; c < 3; c++)
    for (int value = 0; value < 256; value++)
      table[c][value] = ((float)value - step->weights[c]) / step->weights[3 + c];
  for (int y = 0; y < target->height; y++, out += target->row, image += 3 * target->width)
    for (int x = 0; x < 3 * target->width; x += 3)
      for (int c = 0; c < 3; c++) out[x + c] = table[c][image[x + c]];
}

static void one(const Plan *plan, const Step *step, long image, long first, const uint8_t *images) {
  const Map *source = plan->maps + step->source, *target = plan->maps + step->target;
  const Map *added = step->added < 0 ? 0 : plan->maps + step->added;
  const float *in = at(source, image, first), *more = added ? at(added, image, first) : 0;
  float *out = at(target, image, first);
  switch (step->kind) {
    case PIXELS: pixels(step, images + image * target->height * target->width * 3, target, out); break;
    case DENSE: dense(step, source, in, target, out, added, more); break;
    case EXPAND: expand(plan, step, step + 1, image, first); break;
    case DEPTHWISE:
      depthwise_rows(step, source, in, target, out, 0, target->channels, 0, target->height);
      break;
    case LARGEST: pool(0, step, source, in, target, out); break;
    case AVERAGE: pool(1, step, source, in, target, out); break;
    case MEAN: mean(source, in, 0, out); break;
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
        if (step->kind == EXPAND) step++; /* both were done */
      }
    }
}

int headway_lanes(void) { return LANES; }
