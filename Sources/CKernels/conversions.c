#include "kernels.h"
#include "bits.h"
#include "clones.h"

// A number that is rounded once is rounded once with every instruction set.
#pragma STDC FP_CONTRACT OFF

static inline float from_bf16(uint16_t bits) { return as_float((uint32_t)bits << 16); }

// Exponent and fraction are moved into place, the exponent biased by 127 instead of 15. A subnormal is a count of 2^-24, and is
// converted as such, because arithmetic on subnormal floats is a hundred times slower.
static inline float from_f16(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16, magnitude = bits & 0x7FFF;
  uint32_t normal = (magnitude << 13) + (112u << 23);
  uint32_t subnormal = as_bits((float)(int32_t)magnitude * 0x1p-24f);
  uint32_t special = magnitude << 13 | 0x7F800000;
  return as_float((magnitude >= 0x7C00 ? special : magnitude < 0x0400 ? subnormal : normal) | sign);
}

static inline float from_f32(float value) { return value; }

// To nearest, ties to even. NaNs stay NaNs and become quiet, whatever their lower half.
static inline uint16_t to_bf16(float value) {
  uint32_t bits = as_bits(value);
  uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? bits >> 16 | 0x40 : rounded);
}

// Elements of mapped files begin where they begin.
typedef float unaligned_f32 __attribute__((aligned(1)));
typedef uint16_t unaligned_bf16 __attribute__((aligned(1)));
typedef uint16_t unaligned_f16 __attribute__((aligned(1)));

#define DECODE(type, scalar)                                                                                            \
  CLONES void normfold_decode_##type##_##scalar(const void *x, size_t count, scalar *y) {                               \
    const unaligned_##type *stored = (const unaligned_##type *)x;                                                       \
    for (size_t i = 0; i < count; i++) y[i] = (scalar)from_##type(stored[i]);                                           \
  }
DECODE(f32, double)
DECODE(bf16, float)
DECODE(bf16, double)
DECODE(f16, float)
DECODE(f16, double)

CLONES void normfold_encode_bf16(const float *x, size_t count, void *y) {
  unaligned_bf16 *stored = (unaligned_bf16 *)y;
  for (size_t i = 0; i < count; i++) stored[i] = to_bf16(x[i]);
}

CLONES void normfold_encode_f16(const float *x, size_t count, void *y) {
  unaligned_f16 *stored = (unaligned_f16 *)y;
  for (size_t i = 0; i < count; i++) stored[i] = to_f16(x[i]);
}

CLONES void normfold_narrow(const double *x, size_t count, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = (float)x[i];
}

// One step towards zero where rounding to nearest went away from it; then the last bit is set, unless nothing was lost.
CLONES void normfold_narrow_to_odd(const double *x, size_t count, float *y) {
  for (size_t i = 0; i < count; i++) {
    float nearest = (float)x[i];
    double back = nearest, value = x[i];
    uint32_t truncated = as_bits(nearest) - (__builtin_fabs(back) > __builtin_fabs(value) ? 1 : 0);
    y[i] = as_float(back == value ? as_bits(nearest) : truncated | 1);
  }
}

// Magnitudes are ordered as their bits are, NaNs last.
CLONES uint32_t normfold_largest_magnitude_bits(const float *x, size_t count) {
  int32_t largest = 0;
  for (size_t i = 0; i < count; i++) {
    int32_t bits = (int32_t)(as_bits(x[i]) & 0x7FFFFFFF);
    largest = bits > largest ? bits : largest;
  }
  return (uint32_t)largest;
}
