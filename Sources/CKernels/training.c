#include "kernels.h"
#include "clones.h"

// The same bits with every instruction set: a product and a sum are rounded one after the other.
#pragma STDC FP_CONTRACT OFF

enum { LANES = 16 };

#define DEFINE(suffix, type)                                                                                               \
  CLONES void normfold_adamw_##suffix(                                                                                     \
      type *p, const type *g, type *m, type *v, size_t count, const normfold_adamw_factors *factors) {                     \
    const type clip = (type)factors->clipping, kept = (type)factors->kept, new = (type)factors->newMoment;                 \
    const type newSquare = (type)factors->newSquare, oldSquare = (type)factors->oldSquare, root = (type)factors->root;     \
    const type length = (type)factors->length, epsilon = (type)factors->epsilon;                                           \
    for (size_t i = 0; i < count; i++) {                                                                                   \
      type gradient = g[i] * clip;                                                                                         \
      type first = m[i] + new * (gradient - m[i]);                                                                         \
      type second = v[i] * oldSquare + newSquare * gradient * gradient;                                                    \
      m[i] = first;                                                                                                        \
      v[i] = second;                                                                                                       \
      p[i] = p[i] * kept + length * first / (__builtin_elementwise_sqrt(second) / root + epsilon);                         \
    }                                                                                                                      \
  }                                                                                                                        \
                                                                                                                           \
  CLONES double normfold_sum_of_squares_##suffix(const type *x, size_t count) {                                            \
    double sums[LANES] = {0};                                                                                              \
    size_t i = 0;                                                                                                          \
    for (; i + LANES <= count; i += LANES)                                                                                 \
      for (size_t lane = 0; lane < LANES; lane++) sums[lane] += (double)x[i + lane] * (double)x[i + lane];                 \
    for (size_t width = LANES / 2; width > 0; width /= 2)                                                                  \
      for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];                                        \
    for (; i < count; i++) sums[0] += (double)x[i] * (double)x[i];                                                         \
    return sums[0];                                                                                                        \
  }                                                                                                                        \
                                                                                                                           \
  CLONES void normfold_add_##suffix(const type *a, const type *b, size_t count, type *sum) {                               \
    for (size_t i = 0; i < count; i++) sum[i] = a[i] + b[i];                                                               \
  }                                                                                                                        \
                                                                                                                           \
  CLONES void normfold_add_columns_##suffix(                                                                               \
      const type *x, size_t stride, size_t rowCount, size_t columnCount, double *sums) {                                   \
    for (size_t row = 0; row < rowCount; row++)                                                                            \
      for (size_t column = 0; column < columnCount; column++) sums[column] += (double)x[row * stride + column];            \
  }

DEFINE(float, float)
DEFINE(double, double)
