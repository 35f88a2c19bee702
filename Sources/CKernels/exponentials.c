#include "kernels.h"
#include "bits.h"
#include "clones.h"
#include <math.h>

// e^x to within two units in the last place: x = k·ln 2 + r with |r| ≤ ½ ln 2, and e^r by its series up to r^7, whose rest is
// below a tenth of a unit. ln 2 is taken in two parts, the first of which has so few bits that its product with k is exact.
static inline float exponential_float(float x) {
  // Beyond these the result is 0 or infinite in any case. NaN is neither, and stays.
  float y = x > 100.0f ? 100.0f : x;
  y = y < -110.0f ? -110.0f : y;
  // Adding 1.5 · 2^23 leaves no room for a fraction: the sum holds the nearest integer in its low bits.
  const float shifter = 0x1.8p23f;
  float shifted = y * 0x1.715476p0f + shifter;
  float k = shifted - shifter;
  float r = (y - k * 0x1.62e4p-1f) - k * 0x1.7f7d1cp-20f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1;
  // 2^k in two factors, so that results below the smallest normal number, and infinity, come out right.
  int32_t whole = (int32_t)(as_bits(shifted) - as_bits(shifter));
  int32_t half = whole >> 1;
  return p * as_float((uint32_t)(half + 127) << 23) * as_float((uint32_t)(whole - half + 127) << 23);
}

// The same in double precision: the series up to r^13, whose rest is below a twentieth of a unit.
static inline double exponential_double(double x) {
  double y = x > 720.0 ? 720.0 : x;
  y = y < -760.0 ? -760.0 : y;
  const double shifter = 0x1.8p52;
  double shifted = y * 0x1.71547652b82fep0 + shifter;
  double k = shifted - shifter;
  double r = (y - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
  double p = 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r * r + r + 1;
  // k + 2048 has no sign, which vectors of 64-bit integers are shifted without.
  uint64_t raised = double_bits(shifted) - double_bits(shifter) + 2048;
  uint64_t half = raised >> 1;
  return p * as_double((half - 1024 + 1023) << 52) * as_double((raised - half - 1024 + 1023) << 52);
}

enum { LANES = 16 };

#define DEFINE(suffix, type)                                                                                           \
  CLONES void normfold_exponentials_##suffix(type *x, size_t count) {                                                  \
    for (size_t i = 0; i < count; i++) x[i] = exponential_##suffix(x[i]);                                              \
  }                                                                                                                    \
                                                                                                                       \
  CLONES type normfold_largest_##suffix(const type *x, size_t count) {                                                 \
    type largest[LANES];                                                                                               \
    for (size_t lane = 0; lane < LANES; lane++) largest[lane] = -(type)INFINITY;                                       \
    size_t i = 0;                                                                                                      \
    for (; i + LANES <= count; i += LANES)                                                                             \
      for (size_t lane = 0; lane < LANES; lane++) largest[lane] = x[i + lane] > largest[lane] ? x[i + lane] : largest[lane];\
    for (; i < count; i++) largest[0] = x[i] > largest[0] ? x[i] : largest[0];                                         \
    for (size_t lane = 1; lane < LANES; lane++) largest[0] = largest[lane] > largest[0] ? largest[lane] : largest[0];  \
    return largest[0];                                                                                                 \
  }                                                                                                                    \
                                                                                                                       \
  CLONES type normfold_sum_of_exponentials_##suffix(type *x, size_t count, type shift) {                               \
    type sums[LANES] = {0};                                                                                            \
    size_t i = 0;                                                                                                      \
    for (; i + LANES <= count; i += LANES)                                                                             \
      for (size_t lane = 0; lane < LANES; lane++) {                                                                    \
        x[i + lane] = exponential_##suffix(x[i + lane] - shift);                                                       \
        sums[lane] += x[i + lane];                                                                                     \
      }                                                                                                                \
    for (size_t width = LANES / 2; width > 0; width /= 2)                                                              \
      for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];                                    \
    for (; i < count; i++) {                                                                                           \
      x[i] = exponential_##suffix(x[i] - shift);                                                                       \
      sums[0] += x[i];                                                                                                 \
    }                                                                                                                  \
    return sums[0];                                                                                                    \
  }                                                                                                                    \
                                                                                                                       \
  CLONES void normfold_gelu_tanh_##suffix(const type *x, size_t count, type *y) {                                      \
    const type inner = (type)-1.5957691216057308, cubic = (type)0.044715;                                              \
    for (size_t i = 0; i < count; i++) {                                                                               \
      type v = x[i];                                                                                                   \
      y[i] = v / (1 + exponential_##suffix(inner * (v + cubic * v * v * v)));                                          \
    }                                                                                                                  \
  }                                                                                                                    \
                                                                                                                       \
  /* With s = 1 / (1 + e^(-2u)): y' = s + x·s(1 − s)·2u'. */                                                           \
  CLONES void normfold_gelu_tanh_slope_##suffix(const type *up, const type *x, size_t count, type *y) {                \
    const type inner = (type)1.5957691216057308, cubic = (type)0.044715, steep = (type)(3 * 0.044715);                 \
    for (size_t i = 0; i < count; i++) {                                                                               \
      type v = x[i];                                                                                                   \
      type s = 1 / (1 + exponential_##suffix(-inner * (v + cubic * v * v * v)));                                       \
      y[i] = up[i] * (s + v * s * (1 - s) * (inner * (1 + steep * v * v)));                                            \
    }                                                                                                                  \
  }                                                                                                                    \
                                                                                                                       \
  CLONES void normfold_silu_##suffix(const type *x, size_t count, type *y) {                                           \
    for (size_t i = 0; i < count; i++) y[i] = x[i] / (1 + exponential_##suffix(-x[i]));                                \
  }                                                                                                                    \
                                                                                                                       \
  /* With s = 1 / (1 + e^(-x)): y' = s + x·s(1 − s). */                                                                \
  CLONES void normfold_silu_slope_##suffix(const type *up, const type *x, size_t count, type *y) {                     \
    for (size_t i = 0; i < count; i++) {                                                                               \
      type v = x[i];                                                                                                   \
      type s = 1 / (1 + exponential_##suffix(-v));                                                                     \
      y[i] = up[i] * (s + v * s * (1 - s));                                                                            \
    }                                                                                                                  \
  }

DEFINE(float, float)
DEFINE(double, double)
