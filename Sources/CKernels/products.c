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
