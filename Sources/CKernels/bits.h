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

#endif
