#ifndef NORMFOLD_KERNELS_H
#define NORMFOLD_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

// Loops over one row of a matrix, compiled for several instruction sets; the one of the machine is chosen when the program
// starts. Rows may begin at any byte. Each has a form for Float and one for Double; arithmetic is in double precision.

// One side of a comparison: m = w · rowFactor · columnFactors − rowShift − columnShifts. How far m may be off is
// (relative · |w| + absolute + errors) · |rowFactor · columnFactors|.
typedef struct {
  double rowFactor;
  const double *columnFactors;
  double rowShift;
  const double *columnShifts;
  double relative;
  double absolute;
  const double *errors;
} normfold_side;

// Whether the elements of two rows are somewhere farther apart than limit times what both may be off, with rowSlack and
// columnSlacks, or are no numbers.
#define DECLARE(suffix, type)                                                                                           \
  bool normfold_row_exceeds_##suffix(                                                                                   \
      const type *r, const type *c, size_t count, const normfold_side *reference, const normfold_side *candidate,       \
      double rowSlack, const double *columnSlacks, double limit);                                                       \
  /* sums += r·factor, magnitudes += |r·factor| */                                                                      \
  void normfold_row_accumulate_##suffix(                                                                                \
      const type *r, size_t count, double factor, double *sums, double *magnitudes);                                    \
  /* sums += r·value, magnitudes += |r|·error */                                                                        \
  void normfold_row_project_##suffix(                                                                                   \
      const type *r, size_t count, double value, double error, double *sums, double *magnitudes);                       \
  /* result[0] = Σ r·factors, result[1] = Σ |r·factors|, result[2] = Σ r·values, result[3] = Σ |r|·errors */            \
  void normfold_row_sums_##suffix(                                                                                      \
      const type *r, size_t count, const double *factors, const double *values, const double *errors, double *result);

DECLARE(float, float)
DECLARE(double, double)
#undef DECLARE

#endif
