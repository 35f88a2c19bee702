#include "kernels.h"
#include "bits.h"
#include "clones.h"
#include <math.h>

// e^x to within two units in the last place: x = k·ln 2 + r with |r| ≤ ½ ln 2, and e^r by its series up to r^7, whose rest is
// below a tenth of a unit. ln 2 is taken in two parts, the first of which has so few bits that its product with k is exact.
static inline float exponential(float x) {
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

CLONES void normfold_exponentials(float *x, size_t count) {
  for (size_t i = 0; i < count; i++) x[i] = exponential(x[i]);
}

enum { LANES = 16 };

CLONES float normfold_largest(const float *x, size_t count) {
  float largest[LANES];
  for (size_t lane = 0; lane < LANES; lane++) largest[lane] = -INFINITY;
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (size_t lane = 0; lane < LANES; lane++) largest[lane] = x[i + lane] > largest[lane] ? x[i + lane] : largest[lane];
  for (; i < count; i++) largest[0] = x[i] > largest[0] ? x[i] : largest[0];
  for (size_t lane = 1; lane < LANES; lane++) largest[0] = largest[lane] > largest[0] ? largest[lane] : largest[0];
  return largest[0];
}

CLONES float normfold_sum_of_exponentials(float *x, size_t count, float shift) {
  float sums[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (size_t lane = 0; lane < LANES; lane++) {
      x[i + lane] = exponential(x[i + lane] - shift);
      sums[lane] += x[i + lane];
    }
  for (size_t width = LANES / 2; width > 0; width /= 2)
    for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
  for (; i < count; i++) {
    x[i] = exponential(x[i] - shift);
    sums[0] += x[i];
  }
  return sums[0];
}

CLONES void normfold_gelu_tanh(const float *x, size_t count, float *y) {
  const float inner = -1.5957691216057308f, cubic = 0.044715f;
  for (size_t i = 0; i < count; i++) {
    float v = x[i];
    y[i] = v / (1 + exponential(inner * (v + cubic * v * v * v)));
  }
}

// With s = 1 / (1 + e^(-2u)): y' = s + x·s(1 − s)·2u'.
CLONES void normfold_gelu_tanh_slope(const float *up, const float *x, size_t count, float *y) {
  const float inner = 1.5957691216057308f, cubic = 0.044715f, steep = 3 * 0.044715f;
  for (size_t i = 0; i < count; i++) {
    float v = x[i];
    float s = 1 / (1 + exponential(-inner * (v + cubic * v * v * v)));
    y[i] = up[i] * (s + v * s * (1 - s) * (inner * (1 + steep * v * v)));
  }
}

CLONES void normfold_silu(const float *x, size_t count, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = x[i] / (1 + exponential(-x[i]));
}

// With s = 1 / (1 + e^(-x)): y' = s + x·s(1 − s).
CLONES void normfold_silu_slope(const float *up, const float *x, size_t count, float *y) {
  for (size_t i = 0; i < count; i++) {
    float v = x[i];
    float s = 1 / (1 + exponential(-v));
    y[i] = up[i] * (s + v * s * (1 - s));
  }
}
