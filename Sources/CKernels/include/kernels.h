#ifndef NORMFOLD_KERNELS_H
#define NORMFOLD_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Loops that are compiled for several instruction sets; the one of the machine is chosen when the program starts.

// Loops over one row of a matrix. Rows may begin at any byte. Each has a form for Float and one for Double; arithmetic is in
// double precision.

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

// C += X·W for few rows: X [m, k], W [k, n] or, if isTransposed, stored as [n, k], in floats that may begin at any byte.
void normfold_product(
    size_t m, size_t n, size_t k, const double *x, size_t strideX, const float *w, size_t strideW, bool isTransposed,
    double *c, size_t strideC);

// Tells the processor that a thread waits for another.
static inline void normfold_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// c += x·W for one row x [k]: W [k, n] or, if isTransposed, stored as [n, k], in floats that may begin at any byte.
void normfold_row_product(
    size_t n, size_t k, const float *x, const float *w, size_t strideW, bool isTransposed, float *c);

// C = X·W in integers of 8 or 16 bits: X [m, k], W packed, sums of 32 bits, exact where they fit. Each form is for other
// instructions; all give the same numbers.
typedef enum {
  NORMFOLD_PLAIN,
  NORMFOLD_AVX2,
  NORMFOLD_AVX_VNNI,
  NORMFOLD_AVX512_VNNI,
} normfold_integer_form;

// Whether the machine has the instructions of a form.
bool normfold_has_form(normfold_integer_form form);
// The bytes of a packed weight of n outputs and k inputs. A multiple of 16 outputs is packed as if it were alone.
size_t normfold_packed_int8_size(size_t n, size_t k);
// Packs some outputs and inputs of a weight that has `depth` inputs.
void normfold_pack_int8(
    size_t n, size_t k, const int8_t *w, size_t strideOutput, size_t strideInput, size_t firstOutput, size_t firstInput,
    size_t depth, uint8_t *packed);
void normfold_product_int8(
    normfold_integer_form form, size_t m, size_t n, size_t k, const int8_t *x, size_t strideX, const uint8_t *packed,
    int32_t *c, size_t strideC);

// The same in 16 bits; the size is in numbers.
size_t normfold_packed_int16_size(size_t n, size_t k);
void normfold_pack_int16(
    size_t n, size_t k, const int16_t *w, size_t strideOutput, size_t strideInput, size_t firstOutput, size_t firstInput,
    size_t depth, int16_t *packed);
void normfold_product_int16(
    normfold_integer_form form, size_t m, size_t n, size_t k, const int16_t *x, size_t strideX, const int16_t *packed,
    int32_t *c, size_t strideC);

// Stored numbers, which may begin at any byte, to floats or doubles: exactly.
void normfold_decode_f32_double(const void *x, size_t count, double *y);
void normfold_decode_bf16_float(const void *x, size_t count, float *y);
void normfold_decode_bf16_double(const void *x, size_t count, double *y);
void normfold_decode_f16_float(const void *x, size_t count, float *y);
void normfold_decode_f16_double(const void *x, size_t count, double *y);

// Floats to narrower types, rounded to nearest, ties to even, at any byte.
void normfold_encode_bf16(const float *x, size_t count, void *y);
void normfold_encode_f16(const float *x, size_t count, void *y);

// Blocks of 32 floats as ggml's Q8_0: a scale, binary16, and 32 bytes. Returns 0 where a scale is infinite or NaN.
int normfold_encode_q8_0(const float *x, size_t blockCount, void *y);

// Doubles to floats, rounded to nearest, and rounded to odd: where a double lies between two floats, to the one whose last
// bit is 1. Rounding that once more, to fewer bits, gives what rounding the double would (Boldo and Melquiond, When double
// rounding is odd, 2005), and no finite value becomes infinite.
void normfold_narrow(const double *x, size_t count, float *y);
void normfold_narrow_to_odd(const double *x, size_t count, float *y);

// The bits of the largest |x|, NaNs being larger than all numbers.
uint32_t normfold_largest_magnitude_bits(const float *x, size_t count);

#define DECLARE(suffix, type)                                                                                          \
  /* Replaces each x by e^x, to within two units in the last place. */                                                 \
  void normfold_exponentials_##suffix(type *x, size_t count);                                                          \
  /* The largest number; -infinity of nothing. NaN counts for nothing. */                                              \
  type normfold_largest_##suffix(const type *x, size_t count);                                                         \
  /* Replaces each x by e^(x - shift), and returns their sum, in sixteen partial sums. */                              \
  type normfold_sum_of_exponentials_##suffix(type *x, size_t count, type shift);                                       \
  /* y = x / (1 + e^(-2u)) = x(1 + tanh u) / 2 with u = √(2/π)(x + 0.044715x³): without the cancellation of 1 + tanh u. */\
  void normfold_gelu_tanh_##suffix(const type *x, size_t count, type *y);                                              \
  /* y = up · d/dx of the function above at x. */                                                                      \
  void normfold_gelu_tanh_slope_##suffix(const type *up, const type *x, size_t count, type *y);                        \
  /* y = x / (1 + e^(-x)) */                                                                                           \
  void normfold_silu_##suffix(const type *x, size_t count, type *y);                                                   \
  /* y = up · d/dx of the function above at x. */                                                                      \
  void normfold_silu_slope_##suffix(const type *up, const type *x, size_t count, type *y);

DECLARE(float, float)
DECLARE(double, double)
#undef DECLARE

// The factors of a step of AdamW, as the functions below use them.
typedef struct {
  double clipping, kept, newMoment, newSquare, oldSquare, root, length, epsilon;
} normfold_adamw_factors;

// Loops of training, for Float and Double. The same bits with every instruction set.
#define DECLARE(suffix, type)                                                                                      \
  /* With g' = g · clipping: m += (g' − m) · newMoment, v = v · oldSquare + g'² · newSquare,                        \
     p = p · kept + m · length / (√v / root + epsilon). */                                                         \
  void normfold_adamw_##suffix(                                                                                    \
      type *p, const type *g, type *m, type *v, size_t count, const normfold_adamw_factors *factors);              \
  /* In double precision, in sixteen partial sums. */                                                              \
  double normfold_sum_of_squares_##suffix(const type *x, size_t count);                                            \
  /* sum = a + b; sum may be a or b. */                                                                            \
  void normfold_add_##suffix(const type *a, const type *b, size_t count, type *sum);                               \
  /* sums += Σ over the rows of x, in double precision, row by row. */                                             \
  void normfold_add_columns_##suffix(                                                                              \
      const type *x, size_t stride, size_t rowCount, size_t columnCount, double *sums);

DECLARE(float, float)
DECLARE(double, double)
#undef DECLARE

// Loops over rows of doubles. The same bits with every instruction set.
// x = x · factors, x = x · factor, x = x - others, x = x - shift
void normfold_multiply(double *x, const double *factors, size_t count);
void normfold_scale(double *x, size_t count, double factor);
void normfold_subtract(double *x, const double *others, size_t count);
void normfold_shift(double *x, size_t count, double shift);
// Σ x and Σ x · y, in sixteen partial sums.
double normfold_sum(const double *x, size_t count);
double normfold_sum_of_products(const double *x, const double *y, size_t count);
// sums += Σ over the rows of x, each times its weight.
void normfold_add_weighted_rows(
    const double *x, size_t rowCount, size_t columnCount, const double *weights, double *sums);

// Whether no number is NaN or infinite: none has all bits of its exponent set. Numbers of 32 or 16 bits may begin at any byte.
bool normfold_are_finite_double(const double *x, size_t count);
bool normfold_are_finite_32(const void *x, size_t count, uint32_t exponent);
bool normfold_are_finite_16(const void *x, size_t count, uint16_t exponent);

// Rows of floats, which may begin at any byte and are `stride` floats apart, become columns of y.
void normfold_transpose_f32_double(
    const void *x, size_t stride, size_t rowCount, size_t columnCount, double *y, size_t targetStride);

// The value of OPENBLAS_CORETYPE for the widest kernels of OpenBLAS that this processor runs; null where those that every
// x86-64 runs are all there is, or it is another kind of processor.
const char *normfold_openblas_core(void);

// Whether this processor computes two digests at a time.
bool normfold_has_sha256_pairs(void);

// The SHA-256 of two pieces of as many bytes, a multiple of 64: 2 × 32 bytes.
void normfold_sha256_pair(
    const void *first, const void *second, size_t byteCount, uint8_t *digests);

// Whether this processor has vectors of sixteen words, and whether it takes less time with them than with instructions for SHA-256.
bool normfold_has_sha256_lanes(void);
bool normfold_prefers_sha256_lanes(void);

// The SHA-256 of at most sixteen pieces, at least one, of as many bytes, a multiple of 64: 32 bytes each. It takes the same time for
// one as for sixteen.
void normfold_sha256_lanes(const void *const *pieces, size_t pieceCount, size_t byteCount, uint8_t *digests);

#endif
