/* A convolution of 3 x 3 with a stride of 1, as training needs it: its result, and the gradient of its weights. By
   Winograd's minimal filtering, as winograd.h; maps of (n, height, width, channels), whole registers of channels. */
#include "lanes.h"
#include "plan.h"
#pragma GCC diagnostic ignored "-Wunused-function" /* of the next one only `products` is wanted here */
#include "dense.h"
#include "winograd.h"

#define SPARE 16 /* numbers after the channels of a tile: else all tiles would want the same places of the cache */

typedef struct {
  long n;
  int height, width, in, out; /* channels of what it reads and of what it gives */
  int tiles; /* worked on together */
  const float *zeros; /* as many as it reads channels */
} Sizes;

static Map map_of(const Sizes *sizes, const float *pixels, long channels) {
  return (Map){(float *)pixels, sizes->height * sizes->width * channels, sizes->width * channels,
               sizes->height, sizes->height, sizes->width, (int)channels, 1};
}

/* A transform of the columns of a map and then of its rows: `from` x `from` numbers, READ(y, x), become `to` x `to`,
   each handed to WRITE(y, x, number). */
#define BOTH_WAYS(transform, from, to, READ, WRITE)                                                                  \
  do {                                                                                                               \
    Lanes half[from][to]; /* [column][row] */                                                                        \
    _Pragma("GCC unroll 6") for (int x = 0; x < from; x++) {                                                         \
      Lanes column[from];                                                                                            \
      _Pragma("GCC unroll 6") for (int y = 0; y < from; y++) column[y] = READ(y, x);                                 \
      transform(column, half[x]);                                                                                    \
    }                                                                                                                \
    _Pragma("GCC unroll 6") for (int y = 0; y < to; y++) {                                                           \
      Lanes row[from], done[to];                                                                                     \
      _Pragma("GCC unroll 6") for (int x = 0; x < from; x++) row[x] = half[x][y];                                    \
      transform(row, done);                                                                                          \
      _Pragma("GCC unroll 6") for (int x = 0; x < to; x++) WRITE(y, x, done[x]);                                     \
    }                                                                                                                \
  } while (0)

/* G w of one row: three numbers → six (packing.py has G). */
INLINE void spread(const Lanes w[3], Lanes to[6]) {
  Lanes a = (w[0] + w[2]) * (-1 / 6.0f), b = w[1] * (1 / 6.0f);
  Lanes c = w[0] * (1 / 24.0f) + w[2] * (1 / 6.0f), d = w[1] * (1 / 12.0f);
  to[0] = w[0] * 0.25f;
  to[1] = a - b;
  to[2] = a + b;
  to[3] = c + d;
  to[4] = c - d;
  to[5] = w[2];
}

/* G^T u, its transpose: six numbers → three. */
INLINE void gathered(const Lanes u[6], Lanes to[3]) {
  Lanes a = u[1] + u[2], b = u[2] - u[1], c = u[3] + u[4], d = u[3] - u[4];
  to[0] = u[0] * 0.25f - a * (1 / 6.0f) + c * (1 / 24.0f);
  to[1] = b * (1 / 6.0f) + d * (1 / 12.0f);
  to[2] = u[5] + (c - a) * (1 / 6.0f);
}

/* A g, the transpose of `after` in winograd.h: four numbers → six. */
INLINE void before_products(const Lanes g[4], Lanes to[6]) {
  Lanes a = g[0] + g[2], b = g[1] + g[3], c = g[0] + 4 * g[2], d = 2 * g[1] + 8 * g[3];
  to[0] = g[0];
  to[1] = a + b;
  to[2] = a - b;
  to[3] = c + d;
  to[4] = c - d;
  to[5] = g[3];
}

/* Weights (3, 3, in, out), or turned by half a circle, of the panels `from` to `to`, as `winograd` reads them. */
void headway_pack(const Sizes *sizes, const float *weights, int turned, int from, int to, float *packed) {
  const long in = sizes->in, out = sizes->out, tap = turned ? -in * out : in * out;
  if (turned) weights += 8 * in * out;
  for (long k = (long)from * PANEL; k < (long)to * PANEL && k < out; k += PANEL) {
    const int columns = out - k >= PANEL ? 2 : 1;
    for (long c = 0; c < in; c++)
      for (int v = 0; v < columns; v++) {
        const float *seen = weights + c * out + k + v * LANES;
#define READ(y, x) load(seen + ((y) * 3 + (x)) * tap)
#define WRITE(y, x, value) store(packed + (((y) * 6 + (x)) * out + k) * in + (c * columns + v) * LANES, value)
        BOTH_WAYS(spread, 3, 6, READ, WRITE);
#undef READ
#undef WRITE
      }
  }
}

/* Images `first` to `last` of the result. room: as plan.h says. */
void headway_convolve(const Sizes *sizes, const float *in, const float *packed, const float *bias, float *out,
                      long first, long last, float *room) {
  const Map maps[2] = {map_of(sizes, in, sizes->in), map_of(sizes, out, sizes->out)};
  const Step step = {.kind = WINOGRAD, .source = 0, .target = 1, .added = -1, .low = -INFINITY, .high = INFINITY,
                     .weights = packed, .bias = bias};
  const Plan plan = {.steps = &step, .maps = maps, .tiles = sizes->tiles, .room = room, .zeros = sizes->zeros};
  winograd(&plan, &step, first, last - first);
}

/* 4 x 4 pixels of the gradient, `channels` of each from `in` on → A g A^T, number i of them to `to + i * apart`. */
static void gradient_before(const Map *map, const float *in, int channels, Tile tile, float *to, long apart) {
  int rows = map->height - tile.y, columns = map->width - tile.x;
  in += tile.y * map->row + (long)tile.x * map->channels;
  for (int c = 0; c < channels; c += LANES) {
#define READ(y, x) ((y) < rows && (x) < columns ? load(in + (y) * map->row + (long)(x) * map->channels + c) : every(0))
#define WRITE(y, x, value) store(to + ((y) * 6 + (x)) * apart + c, value)
    BOTH_WAYS(before_products, 4, 6, READ, WRITE);
#undef READ
#undef WRITE
  }
}

/* sums (rows, columns * LANES) += left^T right over tiles, kept in registers. */
INLINE void outer(const int rows, const int columns, long tiles, const float *left, long left_apart,
                  const float *right, long right_apart, float *sums, long apart) {
  Lanes kept[ROWS][2];
#pragma GCC unroll 16
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
    for (int v = 0; v < columns; v++) kept[m][v] = load(sums + m * apart + v * LANES);
  for (; tiles; tiles--, left += left_apart, right += right_apart) {
    Lanes one = load(right), two = columns > 1 ? load(right + LANES) : one;
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++) {
      Lanes g = every(left[m]);
      kept[m][0] = plus_product(kept[m][0], one, g);
      if (columns > 1) kept[m][1] = plus_product(kept[m][1], two, g);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
    for (int v = 0; v < columns; v++) store(sums + m * apart + v * LANES, kept[m][v]);
}

#define OUTER(rows, columns)                                                                                         \
  static __attribute__((noinline)) void outer_##rows##_##columns(long tiles, const float *left, long left_apart,     \
                                                                 const float *right, long right_apart, float *sums,  \
                                                                 long apart) {                                       \
    outer(rows, columns, tiles, left, left_apart, right, right_apart, sums, apart);                                  \
  }
#if ROWS == 14
#define MOST 12
#else
#define MOST 6
#endif
#define OUTERS(rows) OUTER(rows, 1) OUTER(rows, 2)
OUTERS(2)
OUTERS(4)
OUTERS(6)
#if MOST == 12
OUTERS(12)
#endif

#define OUTER_CASE(rows)                                                                                             \
  (columns > 1 ? outer_##rows##_2 : outer_##rows##_1)(tiles, left, left_apart, right, right_apart, sums, apart);     \
  done = rows

/* `rows` is even: channels are whole registers. */
INLINE void outers(int rows, const int columns, long tiles, const float *left, long left_apart, const float *right,
                   long right_apart, float *sums, long apart) {
  while (rows) {
    int done;
#if MOST == 12
    if (rows >= 12) { OUTER_CASE(12); }
    else
#endif
    if (rows >= 6 && rows != 8) { OUTER_CASE(6); }
    else if (rows >= 4) { OUTER_CASE(4); }
    else { OUTER_CASE(2); }
    rows -= done;
    left += done;
    sums += done * apart;
  }
}

/* Adds to sums (36, channels, in) what the tiles `from` to `to` give for the `channels` of the result from `first` on:
   of each tile, (A g A^T) x (B^T d B). room: 36 * (tiles * (in + channels + 2 * SPARE) + 2 registers). */
void headway_gradient(const Sizes *sizes, const float *in, const float *gradient, long from, long to, int first,
                      int channels, float *sums, float *room) {
  const Map source = map_of(sizes, in, sizes->in), target = map_of(sizes, gradient, sizes->out);
  const long wide = sizes->in + SPARE, tall = channels + SPARE, tiles = sizes->tiles;
  const long apart = tiles * wide + LANES, apart_left = tiles * tall + LANES;
  float *right = room, *left = room + 36 * apart;
  for (long start = from; start < to; start += tiles) {
    const long now = to - start < tiles ? to - start : tiles;
    for (long t = 0; t < now; t++) {
      Tile tile = tile_of(&target, start + t, 0);
      tile_before(&source, at(&source, tile.image, 0), tile, sizes->zeros, right + t * wide, apart);
      gradient_before(&target, at(&target, tile.image, 0) + first, channels, tile, left + t * tall, apart_left);
    }
    for (int i = 0; i < 36; i++)
      for (long c = 0; c < sizes->in; c += PANEL)
        outers(channels, sizes->in - c >= PANEL ? 2 : 1, now, left + i * apart_left, tall, right + i * apart + c, wide,
               sums + (long)i * channels * sizes->in + c, sizes->in);
  }
}

INLINE Lanes over_parts(const float *from, int parts, long apart) {
  Lanes sum = load(from);
  for (int part = 1; part < parts; part++) sum += load(from + part * apart);
  return sum;
}

/* Sums of `parts`, (36, channels, in) each → the gradient (channels, 3, 3, in) of the weights: G^T u G. */
void headway_gather(const Sizes *sizes, const float *sums, int parts, int channels, float *gradient) {
  const long in = sizes->in, position = channels * in;
  for (long m = 0; m < channels; m++)
    for (long c = 0; c < in; c += LANES) {
      const float *seen = sums + m * in + c;
#define READ(y, x) over_parts(seen + ((y) * 6 + (x)) * position, parts, 36 * position)
#define WRITE(y, x, value) store(gradient + (m * 9 + (y) * 3 + (x)) * in + c, value)
      BOTH_WAYS(gathered, 6, 3, READ, WRITE);
#undef READ
#undef WRITE
    }
}

int headway_lanes(void) { return LANES; }
