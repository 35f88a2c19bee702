#include "kernels.h"
#include "clones.h"

// A product of few rows with a weight in floats, which is read once, as it lies: a library of matrix products would need it as doubles,
// and copies these before it multiplies. Rows are taken eight at a time, so that their sums stay in the registers of AVX-512.

typedef float unaligned_float __attribute__((aligned(1)));

enum { COLUMNS = 16, ROWS = 8, DEPTH = 128 };

#define INLINE static inline __attribute__((always_inline))

// C += X·W for at most ROWS rows and COLUMNS columns, W [depth, COLUMNS].
INLINE void add_tile(
    const size_t rows, size_t depth, const double *x, size_t strideX, const unaligned_float *w, size_t strideW, double *c,
    size_t strideC) {
  double sums[ROWS][COLUMNS];
  for (size_t row = 0; row < rows; row++)
    for (size_t column = 0; column < COLUMNS; column++) sums[row][column] = c[row * strideC + column];
  for (size_t inner = 0; inner < depth; inner++) {
    double weights[COLUMNS];
    for (size_t column = 0; column < COLUMNS; column++) weights[column] = w[inner * strideW + column];
    for (size_t row = 0; row < rows; row++)
      for (size_t column = 0; column < COLUMNS; column++) sums[row][column] += x[row * strideX + inner] * weights[column];
  }
  for (size_t row = 0; row < rows; row++)
    for (size_t column = 0; column < COLUMNS; column++) c[row * strideC + column] = sums[row][column];
}

// c += X·w for at most ROWS rows and one column w [depth], in COLUMNS sums that are added at the end.
INLINE void add_column(
    const size_t rows, size_t depth, const double *x, size_t strideX, const unaligned_float *w, double *c, size_t strideC) {
  double sums[ROWS][COLUMNS] = {{0}};
  size_t inner = 0;
  for (; inner + COLUMNS <= depth; inner += COLUMNS) {
    double weights[COLUMNS];
    for (size_t lane = 0; lane < COLUMNS; lane++) weights[lane] = w[inner + lane];
    for (size_t row = 0; row < rows; row++)
      for (size_t lane = 0; lane < COLUMNS; lane++) sums[row][lane] += x[row * strideX + inner + lane] * weights[lane];
  }
  for (size_t row = 0; row < rows; row++) {
    double sum = 0;
    for (size_t rest = inner; rest < depth; rest++) sum += x[row * strideX + rest] * w[rest];
    for (size_t width = COLUMNS / 2; width > 0; width /= 2)
      for (size_t lane = 0; lane < width; lane++) sums[row][lane] += sums[row][lane + width];
    c[row * strideC] += sums[row][0] + sum;
  }
}

// Calls with a number of rows that the compiler knows: those that are left, ROWS at most.
#define WITH_ROWS(left, CALL) \
  switch (left) {             \
    case 1: CALL(1); break;   \
    case 2: CALL(2); break;   \
    case 3: CALL(3); break;   \
    case 4: CALL(4); break;   \
    case 5: CALL(5); break;   \
    case 6: CALL(6); break;   \
    case 7: CALL(7); break;   \
    default: CALL(ROWS);      \
  }

CLONES void normfold_product(
    size_t m, size_t n, size_t k, const double *x, size_t strideX, const float *weights, size_t strideW, bool isTransposed,
    double *c, size_t strideC) {
  const unaligned_float *w = (const unaligned_float *)weights;
  if (isTransposed) {
    for (size_t column = 0; column < n; column++)
      for (size_t row = 0; row < m; row += ROWS) {
#define COLUMN(rows) add_column(rows, k, x + row * strideX, strideX, w + column * strideW, c + row * strideC + column, strideC)
        WITH_ROWS(m - row, COLUMN)
      }
    return;
  }
  size_t whole = n / COLUMNS * COLUMNS;
  for (size_t first = 0; first < k; first += DEPTH) {
    size_t depth = k - first < DEPTH ? k - first : DEPTH;
    for (size_t column = 0; column < whole; column += COLUMNS)
      for (size_t row = 0; row < m; row += ROWS) {
#define TILE(rows)                                                                                                        \
  add_tile(                                                                                                               \
      rows, depth, x + row * strideX + first, strideX, w + first * strideW + column, strideW, c + row * strideC + column, \
      strideC)
        WITH_ROWS(m - row, TILE)
      }
    for (size_t column = whole; column < n; column++)
      for (size_t row = 0; row < m; row++) {
        double sum = 0;
        for (size_t inner = first; inner < first + depth; inner++)
          sum += x[row * strideX + inner] * w[inner * strideW + column];
        c[row * strideC + column] += sum;
      }
  }
}

// The product of one row, which takes as long as its weight takes to be read: one pass over the rows of W, eight at a time, those that
// follow fetched meanwhile. Each column has one sum, in the order of the rows, whichever columns are asked for.
enum { STEPS = 8, LINE = 64 / sizeof(float) };

CLONES static void add_rows(size_t n, size_t k, const float *x, const unaligned_float *w, size_t stride, float *restrict c) {
  size_t first = 0;
  for (; first + STEPS <= k; first += STEPS) {
    const unaligned_float *rows = w + first * stride;
    const float *factors = x + first;
    size_t column = 0;
    for (; column + LINE <= n; column += LINE) {
      for (size_t step = 0; step < STEPS; step++) __builtin_prefetch(rows + (STEPS + step) * stride + column);
      for (size_t lane = column; lane < column + LINE; lane++) {
        float sum = c[lane];
        for (size_t step = 0; step < STEPS; step++) sum += factors[step] * rows[step * stride + lane];
        c[lane] = sum;
      }
    }
    for (; column < n; column++)
      for (size_t step = 0; step < STEPS; step++) c[column] += factors[step] * rows[step * stride + column];
  }
  for (; first < k; first++)
    for (size_t column = 0; column < n; column++) c[column] += x[first] * w[first * stride + column];
}

enum { LANES = 64, AHEAD = 1024 };

CLONES static float dot(size_t k, const float *x, const unaligned_float *w) {
  float sums[LANES] = {0};
  size_t first = 0;
  for (; first + LANES <= k; first += LANES) {
    for (size_t line = 0; line < LANES; line += LINE) __builtin_prefetch(w + first + line + AHEAD);
    for (size_t lane = 0; lane < LANES; lane++) sums[lane] += x[first + lane] * w[first + lane];
  }
  float rest = 0;
  for (; first < k; first++) rest += x[first] * w[first];
  for (size_t width = LANES / 2; width > 0; width /= 2)
    for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
  return sums[0] + rest;
}

void normfold_row_product(
    size_t n, size_t k, const float *x, const float *weights, size_t strideW, bool isTransposed, float *c) {
  const unaligned_float *w = (const unaligned_float *)weights;
  if (!isTransposed) return add_rows(n, k, x, w, strideW, c);
  for (size_t column = 0; column < n; column++) c[column] += dot(k, x, w + column * strideW);
}
