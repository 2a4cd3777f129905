// Sixteen floats in an AVX-512 register; 32 registers hold a 12 × 2 tile and what feeds it.
#pragma once

#include <immintrin.h>

#include <cstdint>

struct Vector {
  static constexpr int kWidth = 16;
  static constexpr int kTileRows = 12;
  static constexpr int kTileVectors = 2;

  __m512 value;

  static Vector zero() { return {_mm512_setzero_ps()}; }
  static Vector all(float x) { return {_mm512_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vector load(const float* p, int count) { return {_mm512_maskz_loadu_ps(mask(count), p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, value); }
  void store(float* p, int count) const { _mm512_mask_storeu_ps(p, mask(count), value); }
  static Vector load(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static Vector load(const uint16_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_epi16(p)))};
  }
  static Vector load(const Bfloat16* p) { return widen(_mm256_loadu_epi16(p)); }
  static Vector load(const Bfloat16* p, int count) { return widen(_mm256_maskz_loadu_epi16(mask(count), p)); }
  void store(Bfloat16* p) const { _mm256_storeu_epi16(p, narrow()); }
  void store(Bfloat16* p, int count) const { _mm256_mask_storeu_epi16(p, mask(count), narrow()); }

  friend Vector operator+(Vector a, Vector b) { return {_mm512_add_ps(a.value, b.value)}; }
  friend Vector operator-(Vector a, Vector b) { return {_mm512_sub_ps(a.value, b.value)}; }
  friend Vector operator*(Vector a, Vector b) { return {_mm512_mul_ps(a.value, b.value)}; }
  static Vector multiply_add(Vector a, Vector b, Vector c) {
    return {_mm512_fmadd_ps(a.value, b.value, c.value)};
  }
  static Vector positive(Vector a) { return {_mm512_max_ps(_mm512_setzero_ps(), a.value)}; }
  static Vector where_positive(Vector gate, Vector a) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(gate.value, _mm512_setzero_ps(), _CMP_NLE_UQ), a.value)};
  }
  static Vector where_equal(Vector x, Vector y, Vector a) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.value, y.value, _CMP_EQ_OQ), a.value)};
  }
  // Where x is larger than y, or the first NaN of both, a; elsewhere b.
  static Vector where_beats(Vector x, Vector y, Vector a, Vector b) {
    const __mmask16 ordered = _mm512_cmp_ps_mask(y.value, y.value, _CMP_ORD_Q);
    return {_mm512_mask_blend_ps(_mm512_mask_cmp_ps_mask(ordered, x.value, y.value, _CMP_NLE_UQ), b.value,
                                 a.value)};
  }

  // Lane i is lane lanes[i] of `from`, or where that is negative lane i of `other`.
  static Vector take(const int32_t* lanes, Vector from, Vector other) {
    const __m512i at = _mm512_loadu_si512(lanes);
    const __mmask16 taken = _mm512_cmpge_epi32_mask(at, _mm512_setzero_si512());
    return {_mm512_mask_permutexvar_ps(other.value, taken, at, from.value)};
  }

  // Number i of vector j becomes number j of vector i.
  static void transpose(Vector (&v)[16]) {
    __m512 pairs[16], fours[16];
    for (int i = 0; i < 16; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(v[i].value, v[i + 1].value);
      pairs[i + 1] = _mm512_unpackhi_ps(v[i].value, v[i + 1].value);
    }
    for (int i = 0; i < 16; i += 4)
      for (int j = 0; j < 2; ++j) {
        const __m512d a = _mm512_castps_pd(pairs[i + j]), b = _mm512_castps_pd(pairs[i + j + 2]);
        fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
      }
    // fours[4·g + c] holds, in its quarter q, column 4·q + c of rows 4·g … 4·g + 3.
    for (int c = 0; c < 4; ++c) {
      const __m512 low = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0x88);
      const __m512 high = _mm512_shuffle_f32x4(fours[c], fours[4 + c], 0xdd);
      const __m512 far_low = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0x88);
      const __m512 far_high = _mm512_shuffle_f32x4(fours[8 + c], fours[12 + c], 0xdd);
      v[c].value = _mm512_shuffle_f32x4(low, far_low, 0x88);
      v[4 + c].value = _mm512_shuffle_f32x4(high, far_high, 0x88);
      v[8 + c].value = _mm512_shuffle_f32x4(low, far_low, 0xdd);
      v[12 + c].value = _mm512_shuffle_f32x4(high, far_high, 0xdd);
    }
  }

 private:
  static __m512i upper_halves() {
    return _mm512_castsi256_si512(
        _mm256_setr_epi16(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
  }
  static Vector widen(__m256i halves) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
  }
  // To the nearest, of two equally near the even one; NaN stays NaN.
  __m256i narrow() const {
    const __m512i bits = _mm512_castps_si512(value);
    const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __m512i even_up = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    const __m512i up = _mm512_mask_add_epi32(even_up, odd, bits, _mm512_set1_epi32(0x8000));
    const __mmask16 unordered = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i made = _mm512_mask_or_epi32(up, unordered, bits, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper_halves(), made));
  }
  static __mmask16 mask(int count) { return static_cast<__mmask16>((1u << count) - 1); }
};
