#ifndef NORMFOLD_BITS_H
#define NORMFOLD_BITS_H

#include <stdint.h>
#include <string.h>

static inline float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static inline double as_double(uint64_t bits) {
  double value;
  memcpy(&value, &bits, 8);
  return value;
}

static inline uint64_t double_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  return bits;
}

// Infinite from 65,520 on. Below 2^-14 the numbers of binary16 are multiples of 2^-24, as the floats above 0.5 are, so that
// the addition rounds as it must.
static inline uint16_t to_f16(float value) {
  uint32_t bits = as_bits(value), magnitude = bits & 0x7FFFFFFF;
  uint32_t normal = ((magnitude + 0xFFF + (magnitude >> 13 & 1)) >> 13) - (112u << 10);
  uint32_t subnormal = as_bits(as_float(magnitude) + 0.5f) - as_bits(0.5f);
  uint32_t notANumber = 0x7E00 | (magnitude >> 13 & 0x3FF);
  uint32_t finite = magnitude < 0x38800000 ? subnormal : normal < 0x7C00 ? normal : 0x7C00;
  return (uint16_t)((magnitude > 0x7F800000 ? notANumber : finite) | (bits >> 16 & 0x8000));
}

#endif
