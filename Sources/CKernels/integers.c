#include "kernels.h"
#include "clones.h"
#include <string.h>

// Products of integers with sums of 32 bits, which are taken modulo 2^32: exact wherever the result fits.
//
// A packed weight is panels of COLUMNS outputs. A panel has, for every GROUP inputs, GROUP numbers of each of its outputs; numbers are
// stored as w + 128, since the instructions multiply unsigned bytes by signed ones. What that adds to a sum, 128 times the
// sum of the row of X, is where sums begin, with its sign turned.
//
// Weights of 16 bits are packed likewise, PAIR inputs at a time and as they are: there the instructions multiply signed numbers.

enum { COLUMNS = 16, GROUP = 4, PAIR = 2, LINE = COLUMNS * GROUP, OFFSET = 128 };

#define INLINE static inline __attribute__((always_inline))

INLINE size_t groups_of(size_t k) { return (k + GROUP - 1) / GROUP; }

size_t normfold_packed_int8_size(size_t n, size_t k) { return (n + COLUMNS - 1) / COLUMNS * groups_of(k) * LINE; }

void normfold_pack_int8(
    size_t n, size_t k, const int8_t *w, size_t strideOutput, size_t strideInput, size_t firstOutput, size_t firstInput,
    size_t depth, uint8_t *packed) {
  size_t size = groups_of(depth) * LINE;
  for (size_t output = 0; output < n; output++) {
    size_t place = firstOutput + output;
    uint8_t *panel = packed + place / COLUMNS * size + place % COLUMNS * GROUP;
    for (size_t inner = 0; inner < k; inner++) {
      size_t input = firstInput + inner;
      panel[input / GROUP * LINE + input % GROUP] = (uint8_t)(w[output * strideOutput + inner * strideInput] + OFFSET);
    }
  }
}

// Some numbers of a row, at most GROUP; those behind them are 0.
INLINE uint32_t group_at(const int8_t *x, const size_t count) {
  uint32_t bits = 0;
  memcpy(&bits, x, count);
  return bits;
}

// Does the same with every group of k inputs; `count` is how many numbers the group has, GROUP but for the last one.
#define FOR_EACH_GROUP(k, BODY)                                                        \
  for (size_t group = 0; group < (k) / GROUP; group++) BODY(group, GROUP)              \
  if ((k) % GROUP) switch ((k) % GROUP) {                                              \
      case 1: BODY((k) / GROUP, 1) break;                                              \
      case 2: BODY((k) / GROUP, 2) break;                                              \
      default: BODY((k) / GROUP, 3)                                                    \
    }

CLONES static int32_t row_sum(const int8_t *x, size_t k) {
  int32_t sum = 0;
  for (size_t inner = 0; inner < k; inner++) sum += x[inner];
  return sum;
}

INLINE void store_columns(const uint32_t *sums, size_t count, int32_t *c) { memcpy(c, sums, count * sizeof *c); }

// A tile of at most a number of rows and panels: C = X·W.
#define TILE_ARGUMENTS                                                                                                  \
  const int8_t *x, size_t strideX, size_t k, const uint8_t *panel, size_t columns, int32_t *c, size_t strideC, \
      const uint32_t *starts

INLINE void plain_tile(const size_t rows, TILE_ARGUMENTS) {
  for (size_t row = 0; row < rows; row++) {
    uint32_t sums[COLUMNS];
    for (size_t column = 0; column < COLUMNS; column++) sums[column] = starts[row];
    for (size_t inner = 0; inner < k; inner++) {
      int32_t number = x[row * strideX + inner];
      const uint8_t *line = panel + inner / GROUP * LINE + inner % GROUP;
      for (size_t column = 0; column < COLUMNS; column++) sums[column] += (uint32_t)(number * line[column * GROUP]);
    }
    store_columns(sums, columns, c + row * strideC);
  }
}

// The rows of a matrix in tiles, and the panels of a weight, some at a time, so that they stay in the cache.
#define PRODUCT(name, attributes, ROWS, PANELS, tile)                                                                      \
  attributes static void name(                                                                                             \
      size_t m, size_t n, size_t k, const int8_t *x, size_t strideX, const uint8_t *packed, int32_t *c, size_t strideC) {  \
    size_t size = groups_of(k) * LINE;                                                                                     \
    uint32_t starts[ROWS];                                                                                                 \
    for (size_t column = 0; column < n; column += COLUMNS * PANELS) {                                                      \
      size_t columns = n - column < COLUMNS * PANELS ? n - column : COLUMNS * PANELS;                                      \
      const uint8_t *panel = packed + column / COLUMNS * size;                                                             \
      for (size_t row = 0; row < m; row += ROWS) {                                                                         \
        size_t rows = m - row < ROWS ? m - row : ROWS;                                                                     \
        for (size_t index = 0; index < rows; index++)                                                                      \
          starts[index] = (uint32_t)-OFFSET * (uint32_t)row_sum(x + (row + index) * strideX, k);                           \
        tile(rows, x + row * strideX, strideX, k, panel, columns, c + row * strideC + column, strideC, starts);            \
      }                                                                                                                    \
    }                                                                                                                      \
  }

#define ANY_ROWS(rows, ...) plain_tile(rows, __VA_ARGS__)
PRODUCT(plain_product, CLONES, 4, 1, ANY_ROWS)

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX_VNNI __attribute__((target("avx2,avxvnni")))
#define AVX512_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

// Calls with a number of rows that the compiler knows.
#define WITH_4_ROWS(tile, rows, ...)        \
  switch (rows) {                           \
    case 1: tile(1, __VA_ARGS__); break;    \
    case 2: tile(2, __VA_ARGS__); break;    \
    case 3: tile(3, __VA_ARGS__); break;    \
    default: tile(4, __VA_ARGS__);          \
  }
#define WITH_6_ROWS(tile, rows, ...)        \
  switch (rows) {                           \
    case 1: tile(1, __VA_ARGS__); break;    \
    case 2: tile(2, __VA_ARGS__); break;    \
    case 3: tile(3, __VA_ARGS__); break;    \
    case 4: tile(4, __VA_ARGS__); break;    \
    case 5: tile(5, __VA_ARGS__); break;    \
    default: tile(6, __VA_ARGS__);          \
  }

// Two vectors of 8 columns. Bytes are widened to 16 bits, whose products are added in pairs: a column has two sums.
AVX2 INLINE void avx2_tile(const size_t rows, TILE_ARGUMENTS) {
  __m256i sums[4][4];
  for (size_t row = 0; row < rows; row++)
    for (size_t part = 0; part < 4; part++) sums[row][part] = _mm256_setzero_si256();
#define ADD(group, count)                                                                                               \
  {                                                                                                                     \
    const __m128i *line = (const __m128i *)(panel + (group) * LINE);                                                    \
    __m256i numbers[4];                                                                                                 \
    for (size_t row = 0; row < rows; row++)                                                                             \
      numbers[row] = _mm256_cvtepi8_epi16(_mm_set1_epi32((int)group_at(x + row * strideX + (group) * GROUP, count)));   \
    for (size_t part = 0; part < 4; part++) {                                                                           \
      __m256i weights = _mm256_cvtepu8_epi16(_mm_loadu_si128(line + part));                                             \
      for (size_t row = 0; row < rows; row++)                                                                           \
        sums[row][part] = _mm256_add_epi32(sums[row][part], _mm256_madd_epi16(numbers[row], weights));                  \
    }                                                                                                                   \
  }
  FOR_EACH_GROUP(k, ADD)
#undef ADD
  for (size_t row = 0; row < rows; row++) {
    uint32_t pairs[2 * COLUMNS], all[COLUMNS];
    for (size_t part = 0; part < 4; part++) _mm256_storeu_si256((__m256i *)(pairs + 8 * part), sums[row][part]);
    for (size_t column = 0; column < COLUMNS; column++) all[column] = starts[row] + pairs[2 * column] + pairs[2 * column + 1];
    store_columns(all, columns, c + row * strideC);
  }
}
#define AVX2_ROWS(rows, ...) WITH_4_ROWS(avx2_tile, rows, __VA_ARGS__)
PRODUCT(avx2_product, AVX2, 3, 1, AVX2_ROWS)

// Two vectors of 8 columns.
AVX_VNNI INLINE void avx_vnni_tile(const size_t rows, TILE_ARGUMENTS) {
  __m256i sums[6][2];
  for (size_t row = 0; row < rows; row++)
    for (size_t part = 0; part < 2; part++) sums[row][part] = _mm256_set1_epi32((int)starts[row]);
#define ADD(group, count)                                                                                               \
  {                                                                                                                     \
    const __m256i *line = (const __m256i *)(panel + (group) * LINE);                                                    \
    __m256i first = _mm256_loadu_si256(line), second = _mm256_loadu_si256(line + 1);                                    \
    for (size_t row = 0; row < rows; row++) {                                                                           \
      __m256i numbers = _mm256_set1_epi32((int)group_at(x + row * strideX + (group) * GROUP, count));                   \
      sums[row][0] = _mm256_dpbusd_avx_epi32(sums[row][0], first, numbers);                                             \
      sums[row][1] = _mm256_dpbusd_avx_epi32(sums[row][1], second, numbers);                                            \
    }                                                                                                                   \
  }
  FOR_EACH_GROUP(k, ADD)
#undef ADD
  for (size_t row = 0; row < rows; row++) {
    uint32_t all[COLUMNS];
    for (size_t part = 0; part < 2; part++) _mm256_storeu_si256((__m256i *)(all + 8 * part), sums[row][part]);
    store_columns(all, columns, c + row * strideC);
  }
}
#define AVX_VNNI_ROWS(rows, ...) WITH_6_ROWS(avx_vnni_tile, rows, __VA_ARGS__)
PRODUCT(avx_vnni_product, AVX_VNNI, 6, 1, AVX_VNNI_ROWS)

// Up to four panels, each a vector of 16 columns.
AVX512_VNNI INLINE void avx512_vnni_panels(const size_t rows, const size_t panels, TILE_ARGUMENTS) {
  size_t size = groups_of(k) * LINE;
  __m512i sums[6][4];
  for (size_t row = 0; row < rows; row++)
    for (size_t part = 0; part < panels; part++) sums[row][part] = _mm512_set1_epi32((int)starts[row]);
#define ADD(group, count)                                                                                               \
  {                                                                                                                     \
    __m512i weights[4];                                                                                                 \
    for (size_t part = 0; part < panels; part++)                                                                        \
      weights[part] = _mm512_loadu_si512(panel + part * size + (group) * LINE);                                         \
    for (size_t row = 0; row < rows; row++) {                                                                           \
      __m512i numbers = _mm512_set1_epi32((int)group_at(x + row * strideX + (group) * GROUP, count));                   \
      for (size_t part = 0; part < panels; part++)                                                                      \
        sums[row][part] = _mm512_dpbusd_epi32(sums[row][part], weights[part], numbers);                                 \
    }                                                                                                                   \
  }
  FOR_EACH_GROUP(k, ADD)
#undef ADD
  for (size_t row = 0; row < rows; row++)
    for (size_t part = 0; part < panels; part++) {
      size_t first = part * COLUMNS, left = columns - first;
      __mmask16 mask = left < COLUMNS ? (__mmask16)((1u << left) - 1) : (__mmask16)0xFFFF;
      _mm512_mask_storeu_epi32(c + row * strideC + first, mask, sums[row][part]);
    }
}
AVX512_VNNI INLINE void avx512_vnni_tile(const size_t rows, TILE_ARGUMENTS) {
#define PANELS(count) avx512_vnni_panels(rows, count, x, strideX, k, panel, columns, c, strideC, starts)
  switch ((columns + COLUMNS - 1) / COLUMNS) {
    case 1: PANELS(1); break;
    case 2: PANELS(2); break;
    case 3: PANELS(3); break;
    default: PANELS(4);
  }
#undef PANELS
}
#define AVX512_VNNI_ROWS(rows, ...) WITH_6_ROWS(avx512_vnni_tile, rows, __VA_ARGS__)
PRODUCT(avx512_vnni_product, AVX512_VNNI, 6, 4, AVX512_VNNI_ROWS)

// The system keeps the registers of AVX2 where it has AVX2 (EAX of leaf 7, 1 says what else there is).
static bool has_avx_vnni(void) {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

bool normfold_has_form(normfold_integer_form form) {
  switch (form) {
    case NORMFOLD_PLAIN: return true;
#if defined(__x86_64__)
    case NORMFOLD_AVX2: return __builtin_cpu_supports("avx2");
    case NORMFOLD_AVX_VNNI: return has_avx_vnni();
    case NORMFOLD_AVX512_VNNI:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
    default: return false;
  }
}

void normfold_product_int8(
    normfold_integer_form form, size_t m, size_t n, size_t k, const int8_t *x, size_t strideX, const uint8_t *packed,
    int32_t *c, size_t strideC) {
  switch (form) {
#if defined(__x86_64__)
    case NORMFOLD_AVX2: avx2_product(m, n, k, x, strideX, packed, c, strideC); break;
    case NORMFOLD_AVX_VNNI: avx_vnni_product(m, n, k, x, strideX, packed, c, strideC); break;
    case NORMFOLD_AVX512_VNNI: avx512_vnni_product(m, n, k, x, strideX, packed, c, strideC); break;
#endif
    default: plain_product(m, n, k, x, strideX, packed, c, strideC);
  }
}

// MARK: 16 bits

INLINE size_t pairs_of(size_t k) { return (k + PAIR - 1) / PAIR; }

size_t normfold_packed_int16_size(size_t n, size_t k) {
  return (n + COLUMNS - 1) / COLUMNS * pairs_of(k) * COLUMNS * PAIR;
}

void normfold_pack_int16(
    size_t n, size_t k, const int16_t *w, size_t strideOutput, size_t strideInput, size_t firstOutput, size_t firstInput,
    size_t depth, int16_t *packed) {
  size_t size = pairs_of(depth) * COLUMNS * PAIR;
  for (size_t output = 0; output < n; output++) {
    size_t place = firstOutput + output;
    int16_t *panel = packed + place / COLUMNS * size + place % COLUMNS * PAIR;
    for (size_t inner = 0; inner < k; inner++) {
      size_t input = firstInput + inner;
      panel[input / PAIR * COLUMNS * PAIR + input % PAIR] = w[output * strideOutput + inner * strideInput];
    }
  }
}

// Some numbers of a row, at most PAIR; those behind them are 0.
INLINE uint32_t pair_at(const int16_t *x, const size_t count) {
  uint32_t bits = 0;
  memcpy(&bits, x, count * sizeof *x);
  return bits;
}

#define FOR_EACH_PAIR(k, BODY)                                          \
  for (size_t pair = 0; pair < (k) / PAIR; pair++) BODY(pair, PAIR)     \
  if ((k) % PAIR) BODY((k) / PAIR, 1)

#define WIDE_ARGUMENTS \
  const int16_t *x, size_t strideX, size_t k, const int16_t *panel, size_t columns, int32_t *c, size_t strideC

#define WIDE_PRODUCT(name, attributes, ROWS, PANELS, tile)                                                                \
  attributes static void name(                                                                                          \
      size_t m, size_t n, size_t k, const int16_t *x, size_t strideX, const int16_t *packed, int32_t *c,                \
      size_t strideC) {                                                                                                 \
    size_t size = pairs_of(k) * COLUMNS * PAIR;                                                                         \
    for (size_t column = 0; column < n; column += COLUMNS * PANELS) {                                                   \
      size_t columns = n - column < COLUMNS * PANELS ? n - column : COLUMNS * PANELS;                                   \
      for (size_t row = 0; row < m; row += ROWS)                                                                        \
        tile(                                                                                                           \
            m - row < ROWS ? m - row : ROWS, x + row * strideX, strideX, k, packed + column / COLUMNS * size, columns,  \
            c + row * strideC + column, strideC);                                                                       \
    }                                                                                                                   \
  }

INLINE void plain_wide_tile(const size_t rows, WIDE_ARGUMENTS) {
  for (size_t row = 0; row < rows; row++) {
    uint32_t sums[COLUMNS] = {0};
    for (size_t inner = 0; inner < k; inner++) {
      int32_t number = x[row * strideX + inner];
      const int16_t *line = panel + inner / PAIR * COLUMNS * PAIR + inner % PAIR;
      for (size_t column = 0; column < COLUMNS; column++) sums[column] += (uint32_t)(number * line[column * PAIR]);
    }
    store_columns(sums, columns, c + row * strideC);
  }
}
#define ANY_WIDE_ROWS(rows, ...) plain_wide_tile(rows, __VA_ARGS__)
WIDE_PRODUCT(plain_wide_product, CLONES, 4, 1, ANY_WIDE_ROWS)

#if defined(__x86_64__)

// Two vectors of 8 columns.
AVX2 INLINE void avx2_wide_tile(const size_t rows, WIDE_ARGUMENTS) {
  __m256i sums[4][2];
  for (size_t row = 0; row < rows; row++)
    for (size_t part = 0; part < 2; part++) sums[row][part] = _mm256_setzero_si256();
#define ADD(pair, count)                                                                                                \
  {                                                                                                                     \
    const __m256i *line = (const __m256i *)(panel + (pair) * COLUMNS * PAIR);                                           \
    __m256i first = _mm256_loadu_si256(line), second = _mm256_loadu_si256(line + 1);                                    \
    for (size_t row = 0; row < rows; row++) {                                                                           \
      __m256i numbers = _mm256_set1_epi32((int)pair_at(x + row * strideX + (pair) * PAIR, count));                      \
      sums[row][0] = _mm256_add_epi32(sums[row][0], _mm256_madd_epi16(numbers, first));                                 \
      sums[row][1] = _mm256_add_epi32(sums[row][1], _mm256_madd_epi16(numbers, second));                                \
    }                                                                                                                   \
  }
  FOR_EACH_PAIR(k, ADD)
#undef ADD
  for (size_t row = 0; row < rows; row++) {
    uint32_t all[COLUMNS];
    for (size_t part = 0; part < 2; part++) _mm256_storeu_si256((__m256i *)(all + 8 * part), sums[row][part]);
    store_columns(all, columns, c + row * strideC);
  }
}
#define AVX2_WIDE_ROWS(rows, ...) WITH_4_ROWS(avx2_wide_tile, rows, __VA_ARGS__)
WIDE_PRODUCT(avx2_wide_product, AVX2, 4, 1, AVX2_WIDE_ROWS)

// Up to four panels, each a vector of 16 columns.
AVX512_VNNI INLINE void avx512_vnni_wide_panels(const size_t rows, const size_t panels, WIDE_ARGUMENTS) {
  size_t size = pairs_of(k) * COLUMNS * PAIR;
  __m512i sums[6][4];
  for (size_t row = 0; row < rows; row++)
    for (size_t part = 0; part < panels; part++) sums[row][part] = _mm512_setzero_si512();
#define ADD(pair, count)                                                                                                \
  {                                                                                                                     \
    __m512i weights[4];                                                                                                 \
    for (size_t part = 0; part < panels; part++)                                                                        \
      weights[part] = _mm512_loadu_si512(panel + part * size + (pair) * COLUMNS * PAIR);                                \
    for (size_t row = 0; row < rows; row++) {                                                                           \
      __m512i numbers = _mm512_set1_epi32((int)pair_at(x + row * strideX + (pair) * PAIR, count));                      \
      for (size_t part = 0; part < panels; part++)                                                                      \
        sums[row][part] = _mm512_dpwssd_epi32(sums[row][part], weights[part], numbers);                                 \
    }                                                                                                                   \
  }
  FOR_EACH_PAIR(k, ADD)
#undef ADD
  for (size_t row = 0; row < rows; row++)
    for (size_t part = 0; part < panels; part++) {
      size_t first = part * COLUMNS, left = columns - first;
      __mmask16 mask = left < COLUMNS ? (__mmask16)((1u << left) - 1) : (__mmask16)0xFFFF;
      _mm512_mask_storeu_epi32(c + row * strideC + first, mask, sums[row][part]);
    }
}
AVX512_VNNI INLINE void avx512_vnni_wide_tile(const size_t rows, WIDE_ARGUMENTS) {
#define PANELS(count) avx512_vnni_wide_panels(rows, count, x, strideX, k, panel, columns, c, strideC)
  switch ((columns + COLUMNS - 1) / COLUMNS) {
    case 1: PANELS(1); break;
    case 2: PANELS(2); break;
    case 3: PANELS(3); break;
    default: PANELS(4);
  }
#undef PANELS
}
#define AVX512_VNNI_WIDE_ROWS(rows, ...) WITH_6_ROWS(avx512_vnni_wide_tile, rows, __VA_ARGS__)
WIDE_PRODUCT(avx512_vnni_wide_product, AVX512_VNNI, 6, 4, AVX512_VNNI_WIDE_ROWS)
#endif

void normfold_product_int16(
    normfold_integer_form form, size_t m, size_t n, size_t k, const int16_t *x, size_t strideX, const int16_t *packed,
    int32_t *c, size_t strideC) {
  switch (form) {
#if defined(__x86_64__)
    // AVX-VNNI has nothing here that is worth a form of its own.
    case NORMFOLD_AVX2:
    case NORMFOLD_AVX_VNNI: avx2_wide_product(m, n, k, x, strideX, packed, c, strideC); break;
    case NORMFOLD_AVX512_VNNI: avx512_vnni_wide_product(m, n, k, x, strideX, packed, c, strideC); break;
#endif
    default: plain_wide_product(m, n, k, x, strideX, packed, c, strideC);
  }
}
