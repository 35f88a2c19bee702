#include "kernels.h"
#include "bits.h"
#include "clones.h"

// Every instruction set gives the same bits.
#pragma STDC FP_CONTRACT OFF

// What is larger of two numbers, in each lane; a NaN in b is passed over.
#define LARGER(lanes, a, b)                                                                                             \
  for (int lane = 0; lane < lanes; lane++) (a)[lane] = (b)[lane] > (a)[lane] ? (b)[lane] : (a)[lane]

static inline float largest_magnitude(const float *x) {
  float largest[16] = {0}, magnitudes[32];
  for (int i = 0; i < 32; i++) magnitudes[i] = __builtin_fabsf(x[i]);
  LARGER(16, largest, magnitudes);
  LARGER(16, largest, magnitudes + 16);
  LARGER(8, largest, largest + 8);
  LARGER(4, largest, largest + 4);
  LARGER(2, largest, largest + 2);
  return largest[1] > largest[0] ? largest[1] : largest[0];
}

// To nearest, ties away from zero: what is added is the float below one half, with which 0.49999997 does not reach 1. 0 for
// NaN and for magnitudes of 256 or more.
static inline int32_t to_integer(float value) {
  float inRange = __builtin_fabsf(value) < 256 ? value : 0;
  return (int32_t)(inRange + __builtin_copysignf(0x1.fffffep-2f, inRange));
}

CLONES int normfold_encode_q8_0(const float *x, size_t blockCount, void *y) {
  int isFinite = 1;
  for (size_t block = 0; block < blockCount; block++) {
    const float *values = x + 32 * block;
    uint8_t *stored = (uint8_t *)y + 34 * block;
    float scale = largest_magnitude(values) / 127, inverse = scale == 0 ? 0 : 1 / scale;
    uint16_t bits = to_f16(scale);
    isFinite &= (bits & 0x7C00) != 0x7C00;
    memcpy(stored, &bits, 2);
    for (int i = 0; i < 32; i++) stored[2 + i] = (uint8_t)to_integer(values[i] * inverse);
  }
  return isFinite;
}
