#include "kernels.h"
#include "clones.h"

// The same bits with every instruction set: a product and a sum are rounded one after the other, and sums have a fixed order.
#pragma STDC FP_CONTRACT OFF

enum { LANES = 16 };

CLONES void normfold_multiply(double *x, const double *factors, size_t count) {
  for (size_t i = 0; i < count; i++) x[i] *= factors[i];
}

CLONES void normfold_scale(double *x, size_t count, double factor) {
  for (size_t i = 0; i < count; i++) x[i] *= factor;
}

CLONES void normfold_subtract(double *x, const double *others, size_t count) {
  for (size_t i = 0; i < count; i++) x[i] -= others[i];
}

CLONES void normfold_shift(double *x, size_t count, double shift) {
  for (size_t i = 0; i < count; i++) x[i] -= shift;
}

CLONES double normfold_sum(const double *x, size_t count) {
  double sums[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (size_t lane = 0; lane < LANES; lane++) sums[lane] += x[i + lane];
  for (size_t width = LANES / 2; width > 0; width /= 2)
    for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
  for (; i < count; i++) sums[0] += x[i];
  return sums[0];
}

CLONES double normfold_sum_of_products(const double *x, const double *y, size_t count) {
  double sums[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (size_t lane = 0; lane < LANES; lane++) sums[lane] += x[i + lane] * y[i + lane];
  for (size_t width = LANES / 2; width > 0; width /= 2)
    for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
  for (; i < count; i++) sums[0] += x[i] * y[i];
  return sums[0];
}

CLONES void normfold_add_weighted_rows(
    const double *x, size_t rowCount, size_t columnCount, const double *weights, double *sums) {
  size_t row = 0;
  // Four at a time, so that the sums are fetched a quarter as often.
  for (; row + 4 <= rowCount; row += 4) {
    const double *first = x + row * columnCount, *second = first + columnCount;
    const double *third = second + columnCount, *fourth = third + columnCount;
    const double a = weights[row], b = weights[row + 1], c = weights[row + 2], d = weights[row + 3];
    for (size_t i = 0; i < columnCount; i++)
      sums[i] += (a * first[i] + b * second[i]) + (c * third[i] + d * fourth[i]);
  }
  for (; row < rowCount; row++)
    for (size_t i = 0; i < columnCount; i++) sums[i] += weights[row] * x[row * columnCount + i];
}

// The bits of numbers of any type. Elements of mapped files begin where they begin.
typedef uint64_t bits_64 __attribute__((may_alias));
typedef uint32_t unaligned_32 __attribute__((aligned(1), may_alias));
typedef uint16_t unaligned_16 __attribute__((aligned(1), may_alias));

CLONES bool normfold_are_finite_double(const double *x, size_t count) {
  const uint64_t exponent = 0x7FF0000000000000;
  const bits_64 *bits = (const bits_64 *)x;
  uint64_t others = 0;
  for (size_t i = 0; i < count; i++) others |= (uint64_t)((bits[i] & exponent) == exponent);
  return others == 0;
}

CLONES bool normfold_are_finite_32(const void *x, size_t count, uint32_t exponent) {
  const unaligned_32 *bits = (const unaligned_32 *)x;
  uint32_t others = 0;
  for (size_t i = 0; i < count; i++) others |= (uint32_t)((bits[i] & exponent) == exponent);
  return others == 0;
}

CLONES bool normfold_are_finite_16(const void *x, size_t count, uint16_t exponent) {
  const unaligned_16 *bits = (const unaligned_16 *)x;
  uint16_t others = 0;
  for (size_t i = 0; i < count; i++) others |= (uint16_t)((bits[i] & exponent) == exponent);
  return others == 0;
}

typedef float eight __attribute__((vector_size(32)));
typedef float unaligned_eight __attribute__((vector_size(32), aligned(1)));
typedef double eight_doubles __attribute__((vector_size(64)));
typedef double unaligned_eight_doubles __attribute__((vector_size(64), aligned(8)));
typedef float unaligned_float __attribute__((aligned(1)));

#define LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)

CLONES void normfold_transpose_f32_double(
    const void *x, size_t stride, size_t rowCount, size_t columnCount, double *y, size_t targetStride) {
  const unaligned_float *source = (const unaligned_float *)x;
  const size_t wholeRows = rowCount / 8 * 8, wholeColumns = columnCount / 8 * 8;
  for (size_t first = 0; first < wholeRows; first += 8) {
    // Rows are too far apart for the processor to see where the next ones lie.
    if (first + 16 <= wholeRows)
      for (size_t row = first + 8; row < first + 16; row++)
        for (size_t column = 0; column < columnCount; column += 16)
          __builtin_prefetch(source + row * stride + column);
    for (size_t column = 0; column < wholeColumns; column += 8) {
      eight rows[8], mixed[8];
      for (size_t i = 0; i < 8; i++)
        rows[i] = *(const unaligned_eight *)(source + (first + i) * stride + column);
      for (size_t i = 0; i < 8; i += 2) {
        mixed[i] = LOW(rows[i], rows[i + 1]);
        mixed[i + 1] = HIGH(rows[i], rows[i + 1]);
      }
      for (size_t i = 0; i < 8; i += 4)
        for (size_t j = 0; j < 2; j++) {
          rows[i + 2 * j] = LOW_PAIRS(mixed[i + j], mixed[i + 2 + j]);
          rows[i + 2 * j + 1] = HIGH_PAIRS(mixed[i + j], mixed[i + 2 + j]);
        }
      for (size_t i = 0; i < 4; i++) {
        mixed[i] = LOW_HALVES(rows[i], rows[i + 4]);
        mixed[i + 4] = HIGH_HALVES(rows[i], rows[i + 4]);
      }
      for (size_t i = 0; i < 8; i++)
        *(unaligned_eight_doubles *)(y + (column + i) * targetStride + first) =
            __builtin_convertvector(mixed[i], eight_doubles);
    }
    for (size_t column = wholeColumns; column < columnCount; column++)
      for (size_t row = first; row < first + 8; row++)
        y[column * targetStride + row] = (double)source[row * stride + column];
  }
  for (size_t column = 0; column < columnCount; column++)
    for (size_t row = wholeRows; row < rowCount; row++)
      y[column * targetStride + row] = (double)source[row * stride + column];
}
