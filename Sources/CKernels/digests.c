#include "kernels.h"

// SHA-256 (FIPS 180-4) of several pieces at a time; libcrypto, which does everything else here, takes one. A piece is a chain in
// which each round waits for the one before. Two pieces share the instructions that processors have for it: 3.1 GB/s on a core
// of AMD's where one alone has 2.1. Intel's take three times as long for them, and sixteen pieces, one in each lane of a
// vector, are faster there: 2.6 GB/s on an Ice Lake where two pieces have 1.0.

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#define SHA __attribute__((target("sha,sse4.1,ssse3")))

static const uint32_t constants[64] __attribute__((aligned(16))) = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
  0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
  0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
  0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
  0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
  0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// The eight words of a state, a to h, as the instructions want them: a, b, e, f and c, d, g, h, the first in the highest lane.
typedef struct {
  __m128i abef, cdgh;
} state;

SHA static void add_blocks(state *states, const uint8_t *const *pieces, size_t count) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  state s[2] = {states[0], states[1]};
  for (size_t block = 0; block < count; block++) {
    const state before[2] = {s[0], s[1]};
    __m128i words[2][4];
    for (int p = 0; p < 2; p++)
      for (int i = 0; i < 4; i++)
        words[p][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(pieces[p] + 64 * block + 16 * i)), swap);
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
#pragma clang loop unroll(full)
      for (int p = 0; p < 2; p++) {
        const __m128i word = words[p][i & 3], next = words[p][(i + 1) & 3], last = words[p][(i + 3) & 3];
        __m128i sum = _mm_add_epi32(word, _mm_load_si128((const __m128i *)(constants + 4 * i)));
        s[p].cdgh = _mm_sha256rnds2_epu32(s[p].cdgh, s[p].abef, sum);
        s[p].abef = _mm_sha256rnds2_epu32(s[p].abef, s[p].cdgh, _mm_shuffle_epi32(sum, 0x0e));
        if (i < 12) {
          __m128i mixed = _mm_add_epi32(
              _mm_sha256msg1_epu32(word, next), _mm_alignr_epi8(last, words[p][(i + 2) & 3], 4));
          words[p][i & 3] = _mm_sha256msg2_epu32(mixed, last);
        }
      }
    }
    for (int p = 0; p < 2; p++) {
      s[p].abef = _mm_add_epi32(s[p].abef, before[p].abef);
      s[p].cdgh = _mm_add_epi32(s[p].cdgh, before[p].cdgh);
    }
  }
  states[0] = s[0];
  states[1] = s[1];
}

// A bit, zeros, and the number of bits, in the highest byte first.
static void fill_end(uint8_t end[64], size_t byteCount) {
  memset(end, 0, 64);
  end[0] = 0x80;
  for (int i = 0; i < 8; i++) end[63 - i] = (uint8_t)((uint64_t)byteCount * 8 >> 8 * i);
}

static void store_word(uint8_t *digest, int index, uint32_t word) {
  for (int i = 0; i < 4; i++) digest[4 * index + i] = (uint8_t)(word >> (24 - 8 * i));
}

bool normfold_has_sha256_pairs(void) {
  unsigned a, b, c, d;
  // SHA is bit 29 of EBX of leaf 7, SSE4.1 and SSSE3 bits 19 and 9 of ECX of leaf 1.
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 19) || !(c & 1u << 9)) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29);
}

SHA void normfold_sha256_pair(const void *first, const void *second, size_t byteCount, uint8_t *digests) {
  const uint8_t *pieces[2] = {first, second};
  const __m128i abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c);
  const __m128i cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
  state states[2] = {{abef, cdgh}, {abef, cdgh}};
  add_blocks(states, pieces, byteCount / 64);
  uint8_t end[64];
  fill_end(end, byteCount);
  const uint8_t *ends[2] = {end, end};
  add_blocks(states, ends, 1);
  for (int p = 0; p < 2; p++) {
    uint32_t low[4], high[4];
    _mm_storeu_si128((__m128i *)low, states[p].abef);
    _mm_storeu_si128((__m128i *)high, states[p].cdgh);
    const uint32_t words[8] = {low[3], low[2], high[3], high[2], low[1], low[0], high[1], high[0]};
    for (int i = 0; i < 8; i++) store_word(digests + 32 * p, i, words[i]);
  }
}

#define WIDE __attribute__((target("avx512f,avx512bw")))
#define ADD _mm512_add_epi32
#define ROTATE _mm512_ror_epi32
#define XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
// The bits of b where those of a are set, else those of c; and the bits that most of the three have.
#define CHOOSE(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xca)
#define MAJORITY(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)

// Makes the words of sixteen rows, a row in each vector, those of sixteen columns.
WIDE static inline void transpose(__m512i rows[16]) {
  __m512i pairs[16], fours[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; j++) {
      fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + 2 + j]);
      fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + 2 + j]);
    }
  // Quarter q of fours[4 * i + j] has column 4 * q + j of rows 4 * i to 4 * i + 3.
  for (int j = 0; j < 4; j++) {
    __m512i even = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
    __m512i odd = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
    __m512i laterEven = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
    __m512i laterOdd = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_i32x4(even, laterEven, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(even, laterEven, 0xdd);
    rows[4 + j] = _mm512_shuffle_i32x4(odd, laterOdd, 0x88);
    rows[12 + j] = _mm512_shuffle_i32x4(odd, laterOdd, 0xdd);
  }
}

// The states are the words a to h of sixteen pieces.
WIDE static void add_wide_blocks(__m512i *states, const uint8_t *const *pieces, size_t count) {
  const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
  for (size_t block = 0; block < count; block++) {
    __m512i words[16], s[8];
    for (int i = 0; i < 16; i++)
      words[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(pieces[i] + 64 * block), swap);
    transpose(words);
    for (int i = 0; i < 8; i++) s[i] = states[i];
    // Instead of moving each word of a state to the next, the names move: a is s[0], s[7], s[6]…
#pragma clang loop unroll(full)
    for (int i = 0; i < 64; i++) {
      const __m512i a = s[(64 - i) & 7], b = s[(65 - i) & 7], c = s[(66 - i) & 7];
      const __m512i e = s[(68 - i) & 7], f = s[(69 - i) & 7], g = s[(70 - i) & 7], h = s[(71 - i) & 7];
      const __m512i word = words[i & 15];
      const __m512i ofE = ADD(XOR3(ROTATE(e, 6), ROTATE(e, 11), ROTATE(e, 25)), CHOOSE(e, f, g));
      const __m512i ofA = ADD(XOR3(ROTATE(a, 2), ROTATE(a, 13), ROTATE(a, 22)), MAJORITY(a, b, c));
      const __m512i sum = ADD(ADD(h, ADD(word, _mm512_set1_epi32((int)constants[i]))), ofE);
      s[(67 - i) & 7] = ADD(s[(67 - i) & 7], sum);
      s[(71 - i) & 7] = ADD(sum, ofA);
      if (i < 48) {
        const __m512i x = words[(i + 1) & 15], y = words[(i + 14) & 15];
        const __m512i ofX = XOR3(ROTATE(x, 7), ROTATE(x, 18), _mm512_srli_epi32(x, 3));
        const __m512i ofY = XOR3(ROTATE(y, 17), ROTATE(y, 19), _mm512_srli_epi32(y, 10));
        words[i & 15] = ADD(ADD(word, words[(i + 9) & 15]), ADD(ofX, ofY));
      }
    }
    for (int i = 0; i < 8; i++) states[i] = ADD(states[i], s[i]);
  }
}

bool normfold_has_sha256_lanes(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

bool normfold_prefers_sha256_lanes(void) {
  if (!normfold_has_sha256_lanes()) return false;
  if (__builtin_cpu_is("intel") || !normfold_has_sha256_pairs()) return true;
  // AMD's processors before Zen 5, family 26, split vectors of 512 bits in two halves; those from it on do not, and are taken to be
  // faster with lanes, which was not measured. The family is the sum of bits 8 to 11 and 20 to 27 of EAX of leaf 1.
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (a >> 8 & 15) + (a >> 20 & 255) >= 26;
}

WIDE void normfold_sha256_lanes(const void *const *pieces, size_t pieceCount, size_t byteCount, uint8_t *digests) {
  static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const uint8_t *lanes[16], *ends[16];
  uint8_t end[64];
  fill_end(end, byteCount);
  for (size_t i = 0; i < 16; i++) {
    lanes[i] = pieces[i < pieceCount ? i : 0];
    ends[i] = end;
  }
  __m512i states[8];
  for (int i = 0; i < 8; i++) states[i] = _mm512_set1_epi32((int)first[i]);
  add_wide_blocks(states, lanes, byteCount / 64);
  add_wide_blocks(states, ends, 1);
  for (int i = 0; i < 8; i++) {
    uint32_t words[16];
    _mm512_storeu_si512(words, states[i]);
    for (size_t lane = 0; lane < pieceCount; lane++) store_word(digests + 32 * lane, i, words[lane]);
  }
}
#else
bool normfold_has_sha256_lanes(void) { return false; }
bool normfold_prefers_sha256_lanes(void) { return false; }
bool normfold_has_sha256_pairs(void) { return false; }

void normfold_sha256_pair(const void *first, const void *second, size_t byteCount, uint8_t *digests) {
  (void)first, (void)second, (void)byteCount, (void)digests;
}

void normfold_sha256_lanes(const void *const *pieces, size_t pieceCount, size_t byteCount, uint8_t *digests) {
  (void)pieces, (void)pieceCount, (void)byteCount, (void)digests;
}
#endif
