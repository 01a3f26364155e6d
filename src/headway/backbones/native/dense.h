/* Products: convolutions that look at every channel. Channels last, so a row of a kernel is one run of memory. */

typedef struct {
  const float *bias, *added;
  long apart; /* numbers from a row of `added` to the next */
  float low, high;
} Ending;

/* `rows` x (columns * LANES) of a product, kept in registers. Row m of the left side: `runs` runs of `run` numbers,
   `hop` apart, from `a + m * apart`. The right side: its panel, row after row. Each number is the same sum in the same
   order whatever stands beside it, so that no bit of an image depends on its neighbours. */
INLINE void product(const int rows, const int columns, const float *a, long apart, long runs, long run, long hop,
                    const float *panel, float *to, long to_apart, const Ending *ending) {
  const Bounds bound = bounds(ending->low, ending->high);
  const float *added = ending->added;
  long added_apart = ending->apart;
  Lanes sums[ROWS][2];
#pragma GCC unroll 2
  for (int v = 0; v < columns; v++) {
    Lanes first = ending->bias ? load(ending->bias + v * LANES) : every(0);
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++) sums[m][v] = first;
  }
  for (long r = 0; r < runs; r++, a += hop) {
    const float *three[(ROWS + 2) / 3]; /* a pointer for each three rows: p, p + apart, p + 2 * apart need no other */
#pragma GCC unroll 8
    for (int g = 0; g * 3 < rows; g++) three[g] = a + g * 3 * apart;
    for (long k = 0; k < run; k++) {
      Lanes left = load(panel), right = columns > 1 ? load(panel + LANES) : left;
      panel += columns * LANES;
#pragma GCC unroll 16
      for (int m = 0; m < rows; m++) {
        Lanes x = every(three[m / 3][(m % 3) * apart]);
        sums[m][0] = plus_product(sums[m][0], left, x);
        if (columns > 1) sums[m][1] = plus_product(sums[m][1], right, x);
      }
#pragma GCC unroll 8
      for (int g = 0; g * 3 < rows; g++) three[g]++;
    }
  }
  if (added)
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
      for (int v = 0; v < columns; v++) sums[m][v] += load(added + m * added_apart + v * LANES);
#pragma GCC unroll 16
  for (int m = 0; m < rows; m++)
#pragma GCC unroll 2
    for (int v = 0; v < columns; v++)
      store(to + m * to_apart + v * LANES, within(sums[m][v], bound));
}

#define PRODUCT(rows, columns)                                                                                       \
  static __attribute__((noinline)) void product_##rows##_##columns(                                                  \
      const float *a, long apart, long runs, long run, long hop, const float *panel, float *to, long to_apart,       \
      const Ending *ending) {                                                                                        \
    product(rows, columns, a, apart, runs, run, hop, panel, to, to_apart, ending);                                   \
  }
#define PRODUCTS(rows) PRODUCT(rows, 1) PRODUCT(rows, 2)

PRODUCTS(1)
PRODUCTS(2)
PRODUCTS(4)
#if ROWS == 14
PRODUCTS(7)
PRODUCTS(14)
#else
PRODUCTS(6)
#endif

#define CASE(rows)                                                                                                   \
  (columns > 1 ? product_##rows##_2 : product_##rows##_1)(a, apart, runs, run, hop, panel, to, to_apart, &now);      \
  done = rows

/* As many rows as there are, in the largest pieces that there is code for. */
INLINE void products(long rows, const int columns, const float *a, long apart, long runs, long run, long hop,
                     const float *panel, float *to, long to_apart, const Ending *ending) {
  Ending now = *ending;
  while (rows) {
    int done;
#if ROWS == 14
    if (rows >= 14) { CASE(14); }
    else if (rows >= 7) { CASE(7); }
#else
    if (rows >= 6) { CASE(6); }
#endif
    else if (rows >= 4) { CASE(4); }
    else if (rows >= 2) { CASE(2); }
    else { CASE(1); }
    rows -= done;
    a += done * apart;
    to += done * to_apart;
    if (now.added) now.added += done * now.apart;
  }
}

/* Rows `from` to `to` of an image and the channels of one panel, the first of which is `first`; written to `column`. */
static void dense_rows(const Step *step, const Map *source, const float *in, const Map *target, float *out, int column,
                       const Map *added, const float *more, int first, int from, int to) {
  int channels = target->channels - column; /* filled up: whole registers */
  int columns = channels >= PANEL ? 2 : 1;
  long run = step->run, apart = (long)step->stride * source->channels;
  const float *panel = step->weights + (long)first * run * step->height;
  long width = target->width, rows = to - from;
  Ending ending = {step->bias + first, 0, added ? added->channels : 0, step->low, step->high};
  in += (long)(from * step->stride - step->top) * source->row - (long)step->left * source->channels;
  out += from * target->row + column;
  if (more) more += from * added->row + first;
  if (step->height * step->width * step->stride == 1 && source->row == width * source->channels &&
      target->row == width * target->channels && (!added || added->row == width * added->channels)) {
    width *= rows; /* no border anywhere: all pixels are one row */
    rows = 1;
  }
  for (long y = 0; y < rows; y++) {
    ending.added = more ? more + y * added->row : 0;
    products(width, columns, in + y * step->stride * source->row, apart, step->height, run, source->row, panel,
             out + y * target->row, target->channels, &ending);
  }
}

static void dense(const Step *step, const Map *source, const float *in, const Map *target, float *out,
                  const Map *added, const float *more) {
  for (int first = 0; first < target->channels; first += PANEL) /* a panel stays in the cache while pixels go by */
    dense_rows(step, source, in, target, out, first, added, more, first, 0, target->height);
}
