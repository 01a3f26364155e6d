/* Numbers side by side: as many as one register of this processor holds. GCC's vector extensions, which Clang has too. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 14 /* of a product kept in registers: 14 x 2 of 32, and 3 to work with */
#elif defined(__AVX2__)
#define LANES 8
#define ROWS 6 /* 6 x 2 of 16 */
#else
#define LANES 4
#define ROWS 6 /* 6 x 2 of 16 with SSE; NEON has 32 */
#endif
#define PANEL (2 * LANES) /* columns of a product kept in registers */

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef float Anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE Lanes load(const float *from) { return *(const Anywhere *)from; }
INLINE void store(float *to, Lanes values) { *(Anywhere *)to = values; }
INLINE Lanes every(float value) { return value - (Lanes){0}; } /* less 0 and not plus 0: nothing is left to do */

/* sum + a * b, rounded once where the processor can. Said outright: a compiler that is left to choose takes another way
   for sums that stand alone (GCC on Zen does), and then their last bits depend on how many stand beside each other. */
INLINE Lanes plus_product(Lanes sum, Lanes a, Lanes b) {
#if LANES == 16
  return (Lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif LANES == 8 && defined(__FMA__)
  return (Lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
  return sum + a * b;
#endif
}

INLINE Lanes greater(Lanes a, Lanes b) {
#if LANES == 16
  return (Lanes)_mm512_max_ps((__m512)a, (__m512)b);
#elif LANES == 8
  return (Lanes)_mm256_max_ps((__m256)a, (__m256)b);
#else
  for (int i = 0; i < LANES; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
  return a;
#endif
}

INLINE Lanes smaller(Lanes a, Lanes b) {
#if LANES == 16
  return (Lanes)_mm512_min_ps((__m512)a, (__m512)b);
#elif LANES == 8
  return (Lanes)_mm256_min_ps((__m256)a, (__m256)b);
#else
  for (int i = 0; i < LANES; i++) a[i] = a[i] < b[i] ? a[i] : b[i];
  return a;
#endif
}

/* Read once, before loops: what they store might change a step, as far as a compiler knows. */
typedef struct { Lanes low, high; } Bounds;

INLINE Bounds bounds(float low, float high) { return (Bounds){every(low), every(high)}; }
INLINE Lanes within(Lanes values, Bounds b) { return smaller(greater(values, b.low), b.high); }
