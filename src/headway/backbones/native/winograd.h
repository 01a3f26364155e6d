/* Convolutions of 3 x 3 with a stride of 1 by Winograd's minimal filtering F(4 x 4, 3 x 3): 36 multiplications for 16
   results instead of 144 (Lavin & Gray 2016, arXiv:1509.09308, section 4.3). Sums differ in the last digits. */

/* The rows of B^T and A^T of that section. */
INLINE void before(const Lanes d[6], Lanes to[6]) {
  Lanes a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
  to[0] = 4 * d[0] - 5 * d[2] + d[4];
  to[1] = a + b;
  to[2] = a - b;
  to[3] = c + e;
  to[4] = c - e;
  to[5] = 4 * d[1] - 5 * d[3] + d[5];
}

INLINE void after(const Lanes m[6], Lanes to[4]) {
  Lanes a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
  to[0] = m[0] + a + c;
  to[1] = b + 2 * e;
  to[2] = a + 4 * c;
  to[3] = b + 8 * e + m[5];
}

typedef struct { long image; int y, x; } Tile; /* and its first row and column */

INLINE Tile tile_of(const Map *target, long number, long first) {
  int wide = (target->width + 3) / 4, high = (target->height + 3) / 4;
  return (Tile){first + number / (wide * high), (int)(number / wide % high) * 4, (int)(number % wide) * 4};
}

/* 6 x 6 pixels of every channel → B^T d B, number i of them to `to + i * apart`. */
static void tile_before(const Map *source, const float *in, Tile tile, const float *zeros, float *to, long apart) {
  const float *from[36];
  for (int i = 0; i < 36; i++) {
    int y = tile.y - 1 + i / 6, x = tile.x - 1 + i % 6;
    int outside = y < 0 || x < 0 || y >= source->height || x >= source->width;
    from[i] = outside ? zeros : in + y * source->row + (long)x * source->channels;
  }
  for (int c = 0; c < source->channels; c += LANES) {
    Lanes half[6][6]; /* [column][row] */
#pragma GCC unroll 6
    for (int x = 0; x < 6; x++) {
      Lanes d[6];
#pragma GCC unroll 6
      for (int y = 0; y < 6; y++) d[y] = load(from[y * 6 + x] + c);
      before(d, half[x]);
    }
#pragma GCC unroll 6
    for (int y = 0; y < 6; y++) {
      Lanes d[6], done[6];
#pragma GCC unroll 6
      for (int x = 0; x < 6; x++) d[x] = half[x][y];
      before(d, done);
#pragma GCC unroll 6
      for (int x = 0; x < 6; x++) store(to + (y * 6 + x) * apart + c, done[x]);
    }
  }
}

/* 36 products of every channel → A^T m A, and what comes after: bias, what is added, the bounds. */
static void tile_after(const Step *step, const Map *target, float *out, const Map *added, const float *more, Tile tile,
                       const float *from, long apart) {
  int rows = target->height - tile.y, columns = target->width - tile.x;
  const Bounds bound = bounds(step->low, step->high);
  out += tile.y * target->row + (long)tile.x * target->channels;
  if (more) more += tile.y * added->row + (long)tile.x * added->channels;
  for (int c = 0; c < target->channels; c += LANES) {
    Lanes half[6][4], bias = load(step->bias + c); /* [column][row] */
#pragma GCC unroll 6
    for (int x = 0; x < 6; x++) {
      Lanes m[6];
#pragma GCC unroll 6
      for (int y = 0; y < 6; y++) m[y] = load(from + (y * 6 + x) * apart + c);
      after(m, half[x]);
    }
#pragma GCC unroll 4
    for (int y = 0; y < 4; y++) {
      if (y >= rows) break;
      Lanes m[6], done[4];
#pragma GCC unroll 6
      for (int x = 0; x < 6; x++) m[x] = half[x][y];
      after(m, done);
#pragma GCC unroll 4
      for (int x = 0; x < 4; x++) {
        if (x >= columns) break;
        Lanes value = done[x] + bias;
        if (more) value += load(more + y * added->row + (long)x * added->channels + c);
        store(out + y * target->row + (long)x * target->channels + c, within(value, bound));
      }
    }
  }
}

/* Images `first` to `first + n`: tiles of all of them together, so that weights are read once for many. */
static void winograd(const Plan *plan, const Step *step, long first, long n) {
  const Map *source = plan->maps + step->source, *target = plan->maps + step->target;
  const Map *added = step->added < 0 ? 0 : plan->maps + step->added;
  long channels = source->channels, wide = target->channels;
  long tiles = n * ((target->height + 3) / 4) * ((target->width + 3) / 4);
  long apart = plan->tiles * channels + LANES, apart_after = plan->tiles * wide + LANES; /* no power of 2 */
  float *given = plan->room, *found = given + 36 * apart;
  for (long start = 0; start < tiles; start += plan->tiles) {
    long now = tiles - start < plan->tiles ? tiles - start : plan->tiles;
    for (long t = 0; t < now; t++) {
      Tile tile = tile_of(target, start + t, first);
      tile_before(source, at(source, tile.image, first), tile, plan->zeros, given + t * channels, apart);
    }
    for (int i = 0; i < 36; i++)
      for (long k = 0; k < wide; k += PANEL) {
        const float *panel = step->weights + (i * wide + k) * channels;
        const Ending none = {.low = -INFINITY, .high = INFINITY};
        products(now, wide - k >= PANEL ? 2 : 1, given + i * apart, channels, 1, channels, 0, panel,
                 found + i * apart_after + k, wide, &none);
      }
    for (long t = 0; t < now; t++) {
      Tile tile = tile_of(target, start + t, first);
      tile_after(step, target, at(target, tile.image, first), added, added ? at(added, tile.image, first) : 0, tile,
                 found + t * wide, apart_after);
    }
  }
}
