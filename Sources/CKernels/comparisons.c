#include "kernels.h"
#include "clones.h"

#include <math.h>

// Rows of mapped files begin where they begin.
typedef float unaligned_float __attribute__((aligned(1)));
typedef double unaligned_double __attribute__((aligned(1)));

#define DEFINE(suffix, type)                                                                                            \
  CLONES bool normfold_row_exceeds_##suffix(                                                                            \
      const type *rows, const type *candidates, size_t count, const normfold_side *reference,                           \
      const normfold_side *candidate, double rowSlack, const double *columnSlacks, double limit) {                      \
    const normfold_side a = *reference, b = *candidate;                                                                 \
    const unaligned_##type *r = (const unaligned_##type *)rows;                                                         \
    const unaligned_##type *c = (const unaligned_##type *)candidates;                                                   \
    long within = 0;                                                                                                    \
    for (size_t i = 0; i < count; i++) {                                                                                \
      double factor = a.rowFactor * a.columnFactors[i], other = b.rowFactor * b.columnFactors[i];                       \
      double expected = (double)r[i] * factor - a.rowShift - a.columnShifts[i];                                         \
      double found = (double)c[i] * other - b.rowShift - b.columnShifts[i];                                             \
      double ofReference = (a.relative * fabs((double)r[i]) + a.absolute + a.errors[i]) * fabs(factor);                 \
      double ofCandidate = (b.relative * fabs((double)c[i]) + b.absolute + b.errors[i]) * fabs(other);                  \
      double bound = ofReference + ofCandidate + rowSlack + columnSlacks[i];                                            \
      double distance = fabs(expected - found);                                                                         \
      /* An infinite weight has an infinite bound. */                                                                   \
      within += (distance <= limit * bound) & (distance < HUGE_VAL);                                                    \
    }                                                                                                                   \
    return (size_t)within < count;                                                                                      \
  }                                                                                                                     \
  CLONES void normfold_row_accumulate_##suffix(                                                                         \
      const type *row, size_t count, double factor, double *restrict sums, double *restrict magnitudes) {               \
    const unaligned_##type *r = (const unaligned_##type *)row;                                                          \
    for (size_t i = 0; i < count; i++) {                                                                                \
      double scaled = (double)r[i] * factor;                                                                            \
      sums[i] += scaled;                                                                                                \
      magnitudes[i] += fabs(scaled);                                                                                    \
    }                                                                                                                   \
  }                                                                                                                     \
  CLONES void normfold_row_project_##suffix(                                                                            \
      const type *row, size_t count, double value, double error, double *restrict sums, double *restrict magnitudes) {  \
    const unaligned_##type *r = (const unaligned_##type *)row;                                                          \
    for (size_t i = 0; i < count; i++) {                                                                                \
      sums[i] += (double)r[i] * value;                                                                                  \
      magnitudes[i] += fabs((double)r[i]) * error;                                                                      \
    }                                                                                                                   \
  }                                                                                                                     \
  CLONES void normfold_row_sums_##suffix(                                                                               \
      const type *row, size_t count, const double *factors, const double *values, const double *errors,                 \
      double *result) {                                                                                                 \
    _Pragma("clang fp reassociate(on)") const unaligned_##type *r = (const unaligned_##type *)row;                      \
    double sum = 0, magnitude = 0, projection = 0, error = 0;                                                           \
    for (size_t i = 0; i < count; i++) {                                                                                \
      double scaled = (double)r[i] * factors[i];                                                                        \
      sum += scaled;                                                                                                    \
      magnitude += fabs(scaled);                                                                                        \
      projection += (double)r[i] * values[i];                                                                           \
      error += fabs((double)r[i]) * errors[i];                                                                          \
    }                                                                                                                   \
    result[0] = sum;                                                                                                    \
    result[1] = magnitude;                                                                                              \
    result[2] = projection;                                                                                             \
    result[3] = error;                                                                                                  \
  }

DEFINE(float, float)
DEFINE(double, double)
