/* Pillow's scaling of RGB images, bit for bit, many pixels at a time. Weights come from Python (scaling.py): whole
   numbers of 22 bits after the point, as Pillow has them; sums are exact, so their order does not matter. */
#include <stdint.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define POINT 22
#define WIDE 16 /* bytes that are worked on together */
#ifdef __AVX512F__
#define LANES 16 /* sums that a register holds */
#else
#define LANES 8
#endif
#define PARTS (WIDE / LANES)

typedef uint8_t Bytes __attribute__((vector_size(WIDE)));
typedef uint8_t Loose __attribute__((vector_size(WIDE), aligned(1), may_alias));
typedef int32_t Sums __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

/* One direction: for each of `size` results, where its pixels start, how many there are, and `taps` weights (the rest
   zero). */
typedef struct {
  int size, taps;
  const int32_t *starts, *counts, *weights;
} Axis;

INLINE Sums wide(const uint8_t *from) {
#if defined(__AVX512F__)
  return (Sums)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif defined(__AVX2__)
  return (Sums)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
  Sums sums;
  for (int i = 0; i < LANES; i++) sums[i] = from[i];
  return sums;
#endif
}

/* Rounded, and held between 0 and 255. */
INLINE void narrow(const Sums sums[PARTS], uint8_t *to) {
#if defined(__AVX512F__)
  __m512i held = _mm512_max_epi32(_mm512_srai_epi32((__m512i)sums[0], POINT), _mm512_setzero_si512());
  _mm_storeu_si128((__m128i *)to, _mm512_cvtusepi32_epi8(held));
#elif defined(__AVX2__)
  __m256i words = _mm256_packs_epi32((__m256i)(sums[0] >> POINT), (__m256i)(sums[1] >> POINT));
  words = _mm256_permute4x64_epi64(words, 0xD8);
  __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128((__m128i *)to, bytes);
#else
  for (int i = 0; i < WIDE; i++) {
    int32_t value = sums[i / LANES][i % LANES] >> POINT;
    to[i] = value < 0 ? 0 : value > 255 ? 255 : value;
  }
#endif
}

/* 16 results side by side: `count` times 16 bytes, `step` apart, each with its weight. */
INLINE void sixteen(const uint8_t *from, long step, const int32_t *weights, int count, uint8_t *to) {
  Sums sums[PARTS];
#pragma GCC unroll 2
  for (int p = 0; p < PARTS; p++) sums[p] = (Sums){0} + (1 << (POINT - 1));
  for (int t = 0; t < count; t++, from += step)
#pragma GCC unroll 2
    for (int p = 0; p < PARTS; p++) sums[p] += wide(from + p * LANES) * weights[t];
  narrow(sums, to);
}

/* 16 x 16 bytes of 16 rows, from byte `at` of each, to columns `to_row` apart: four times a perfect shuffle. */
INLINE void turn(const uint8_t *const from[WIDE], long at, uint8_t *to, long to_row) {
  Bytes a[WIDE], b[WIDE];
#pragma GCC unroll 16
  for (int i = 0; i < WIDE; i++) a[i] = *(const Loose *)(from[i] + at);
#pragma GCC unroll 4
  for (int round = 0; round < 4; round++) {
#pragma GCC unroll 8
    for (int i = 0; i < WIDE / 2; i++) {
#ifdef __clang__
      b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
      b[2 * i] = __builtin_shuffle(a[i], a[i + 8], (Bytes){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + 8], (Bytes){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
#endif
    }
#pragma GCC unroll 16
    for (int i = 0; i < WIDE; i++) a[i] = b[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < WIDE; i++) *(Loose *)(to + i * to_row) = a[i];
}

/* `n` bytes of 16 rows to `n` columns of 16. */
static void columns(const uint8_t *const rows[WIDE], long from, long n, uint8_t *to) {
  long at = 0;
  for (; at + WIDE <= n; at += WIDE) turn(rows, from + at, to + at * WIDE, WIDE);
  for (; at < n; at++)
    for (int i = 0; i < WIDE; i++) to[at * WIDE + i] = rows[i][from + at];
}

/* And back: the rows `count` of them, `row` apart. */
static void rows_again(const uint8_t *from, long n, uint8_t *to, long row, int count) {
  const uint8_t *lines[WIDE];
  uint8_t block[WIDE * WIDE];
  for (long at = 0; at < n; at += WIDE) {
    long now = n - at < WIDE ? n - at : WIDE;
    for (int i = 0; i < WIDE; i++) lines[i] = from + (at + (i < now ? i : now - 1)) * WIDE;
    turn(lines, 0, block, WIDE);
    for (int i = 0; i < count; i++) memcpy(to + i * row + at, block + i * WIDE, now);
  }
}

/* 16 rows at a time, turned, so that a result of 16 rows is one sum of whole registers. */
static void across(const uint8_t *in, long in_row, int rows, const Axis *axis, uint8_t *out, uint8_t *room) {
  int last = axis->size - 1, first = axis->starts[0], end = axis->starts[last] + axis->counts[last];
  uint8_t *turned = room, *done = room + 3L * (end - first) * WIDE;
  for (int y = 0; y < rows; y += WIDE) {
    const uint8_t *lines[WIDE];
    for (int i = 0; i < WIDE; i++) lines[i] = in + (y + i < rows ? y + i : rows - 1) * in_row;
    columns(lines, 3L * first, 3L * (end - first), turned);
    for (int x = 0; x < axis->size; x++) {
      const int32_t *weights = axis->weights + (long)x * axis->taps;
      const uint8_t *from = turned + 3L * (axis->starts[x] - first) * WIDE;
      for (int c = 0; c < 3; c++)
        sixteen(from + c * WIDE, 3 * WIDE, weights, axis->counts[x], done + (3L * x + c) * WIDE);
    }
    rows_again(done, 3L * axis->size, out + 3L * y * axis->size, 3L * axis->size, rows - y < WIDE ? rows - y : WIDE);
  }
}

/* A part of rows `in_row` apart, `width` bytes of each. */
static void down(const uint8_t *in, long in_row, long width, const Axis *axis, uint8_t *out) {
  for (int y = 0; y < axis->size; y++, out += width) {
    const int32_t *weights = axis->weights + (long)y * axis->taps;
    const uint8_t *from = in + axis->starts[y] * in_row;
    long x = 0;
    for (; x + WIDE <= width; x += WIDE) sixteen(from + x, in_row, weights, axis->counts[y], out + x);
    for (; x < width; x++) {
      int32_t sum = 1 << (POINT - 1);
      for (int t = 0; t < axis->counts[y]; t++) sum += from[t * in_row + x] * weights[t];
      sum >>= POINT;
      out[x] = sum < 0 ? 0 : sum > 255 ? 255 : sum;
    }
  }
}

/* in: (height, width, 3), rows `in_row` bytes apart. out: (size of y, size of x, 3).
   between: what the first of the two directions gives: the rows that y needs, across; or the pixels that x needs, down.
   room: 16 rows of what x reads and of what it gives. */
void headway_scale(const uint8_t *in, long in_row, const Axis *x, const Axis *y, int down_first, uint8_t *between,
                   uint8_t *room, uint8_t *out) {
  int left = x->starts[0], right = x->starts[x->size - 1] + x->counts[x->size - 1];
  int top = y->starts[0], below = y->starts[y->size - 1] + y->counts[y->size - 1];
  long seen = 3L * (right - left), wide_row = 3L * x->size;
  if (down_first) {
    down(in + 3L * left, in_row, seen, y, between);
    across(between - 3L * left, seen, y->size, x, out, room);
  } else {
    across(in + top * in_row, in_row, below - top, x, between, room);
    down(between - top * wide_row, wide_row, wide_row, y, out);
  }
}

/* Whether this is faster than Pillow: without these instructions it is not. */
int headway_scale_pays(void) {
#ifdef __AVX2__
  return 1;
#else
  return 0;
#endif
}
