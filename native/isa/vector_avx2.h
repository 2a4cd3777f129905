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

  static Vector multiply_add(Vector a, Vector b, Vector c) {
    return {_mm256_fmadd_ps(a.value, b.value, c.value)};
  }
  static Vector positive(Vector a) { return {_mm256_max_ps(_mm256_setzero_ps(), a.value)}; }
  static Vector where_positive(Vector gate, Vector a) {
    return {_mm256_and_ps(_mm256_cmp_ps(gate.value, _mm256_setzero_ps(), _CMP_NLE_UQ), a.value)};
  }
  // Where x is larger than y, or the first NaN of both, a; elsewhere b.
  static Vector where_beats(Vector x, Vector y, Vector a, Vector b) {
    const __m256 larger = _mm256_cmp_ps(x.value, y.value, _CMP_NLE_UQ);
    const __m256 ordered = _mm256_cmp_ps(y.value, y.value, _CMP_ORD_Q);
    return {_mm256_blendv_ps(b.value, a.value, _mm256_and_ps(larger, ordered))};
  }

 private:
  static __m256i mask(int count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes);
  }
};
