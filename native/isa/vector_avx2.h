// Eight floats in an AVX register; 16 registers hold a 6 × 2 tile and what feeds it.
#pragma once

#include <immintrin.h>

#include <cstdint>

struct Vector {
  static constexpr int kWidth = 8;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 2;

  __m256 value;

  static Vector zero() { return {_mm256_setzero_ps()}; }
  static Vector all(float x) { return {_mm256_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vector load(const float* p, int count) { return {_mm256_maskload_ps(p, mask(count))}; }
  void store(float* p) const { _mm256_storeu_ps(p, value); }
  void store(float* p, int count) const { _mm256_maskstore_ps(p, mask(count), value); }
  static Vector load(const uint8_t* p) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))};
  }
  static Vector load(const uint16_t* p) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(halves))};
  }
  static Vector load(const Bfloat16* p) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))};
  }
  static Vector load(const Bfloat16* p, int count) {
    Bfloat16 lanes[8] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  // To the nearest, of two equally near the even one; NaN stays NaN.
  void store(Bfloat16* p) const {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256 ordered = _mm256_cmp_ps(value, value, _CMP_ORD_Q);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 chosen = _mm256_blendv_ps(_mm256_castsi256_ps(quiet), _mm256_castsi256_ps(up), ordered);
    const __m256i halves = _mm256_srli_epi32(_mm256_castps_si256(chosen), 16);
    const __m128i low = _mm256_castsi256_si128(halves), high = _mm256_extracti128_si256(halves, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, high));
  }
  void store(Bfloat16* p, int count) const {
    Bfloat16 lanes[8];
    store(lanes);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }

  friend Vector operator+(Vector a, Vector b) { return {_mm256_add_ps(a.value, b.value)}; }
  friend Vector operator-(Vector a, Vector b) { return {_mm256_sub_ps(a.value, b.value)}; }
  friend Vector operator*(Vector a, Vector b) { return {_mm256_mul_ps(a.value, b.value)}; }
  static Vector multiply_add(Vector a, Vector b, Vector c) {
    return {_mm256_fmadd_ps(a.value, b.value, c.value)};
  }
  static Vector positive(Vector a) { return {_mm256_max_ps(_mm256_setzero_ps(), a.value)}; }
  static Vector where_positive(Vector gate, Vector a) {
    return {_mm256_and_ps(_mm256_cmp_ps(gate.value, _mm256_setzero_ps(), _CMP_NLE_UQ), a.value)};
  }
  static Vector where_equal(Vector x, Vector y, Vector a) {
    return {_mm256_and_ps(_mm256_cmp_ps(x.value, y.value, _CMP_EQ_OQ), a.value)};
  }
  // Where x is larger than y, or the first NaN of both, a; elsewhere b.
  static Vector where_beats(Vector x, Vector y, Vector a, Vector b) {
    const __m256 larger = _mm256_cmp_ps(x.value, y.value, _CMP_NLE_UQ);
    const __m256 ordered = _mm256_cmp_ps(y.value, y.value, _CMP_ORD_Q);
    return {_mm256_blendv_ps(b.value, a.value, _mm256_and_ps(larger, ordered))};
  }

  // Lane i is lane lanes[i] of `from`, or where that is negative lane i of `other`.
  static Vector take(const int32_t* lanes, Vector from, Vector other) {
    const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes));
    return {_mm256_blendv_ps(_mm256_permutevar8x32_ps(from.value, at), other.value, _mm256_castsi256_ps(at))};
  }

  // Number i of vector j becomes number j of vector i.
  static void transpose(Vector (&v)[8]) {
    float lanes[8][8];
    for (int i = 0; i < 8; ++i) v[i].store(lanes[i]);
    for (int i = 0; i < 8; ++i) {
      float column[8];
      for (int j = 0; j < 8; ++j) column[j] = lanes[j][i];
      v[i] = load(column);
    }
  }

 private:
  static __m256i mask(int count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes);
  }
};
