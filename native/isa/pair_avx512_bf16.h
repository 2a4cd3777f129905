// Pairs of bfloat16 numbers by AVX-512-BF16: an instruction adds 16 sums of two products.
#pragma once

struct PairUnit {
  static constexpr int kTileRows = 12;

  static void sum(const PairBlock& block, float* sums) {
    tile<kTileRows, 2>(block.rows, block.vectors)(block, sums);
  }

 private:
  using Function = void (*)(const PairBlock&, float*);

  template <int kRows, int kVectors>
  static void run(const PairBlock& block, float* sums) {
    __m512 sum[kRows][kVectors];
    for (auto& row : sum)
      for (__m512& each : row) each = _mm512_setzero_ps();
    for (int64_t t = 0; t < block.count; ++t) {
      const Bfloat16* a = block.a[t] + block.a_offset;
      const Bfloat16* b = block.b[t] + block.b_offset;
      for (int64_t k = 0; k < block.inner; k += 2, a += 2, b += block.b_step) {
        __m512i right[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) right[v] = _mm512_loadu_si512(b + v * 2 * Vector::kWidth);
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) {
          int pair;
          __builtin_memcpy(&pair, a + i * block.row_step, sizeof(pair));
          const __m512i left = _mm512_set1_epi32(pair);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v)
            sum[i][v] = _mm512_dpbf16_ps(sum[i][v], (__m512bh)left, (__m512bh)right[v]);
        }
      }
    }
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVectors; ++v) _mm512_store_ps(sums + i * kPanel + v * Vector::kWidth, sum[i][v]);
  }

  template <int kRows, int kVectors>
  static Function tile(int rows, int vectors) {
    if (vectors < kVectors) {
      if constexpr (kVectors > 1) return tile<kRows, kVectors - 1>(rows, vectors);
    }
    if (rows < kRows) {
      if constexpr (kRows > 1) return tile<kRows - 1, kVectors>(rows, vectors);
    }
    return run<kRows, kVectors>;
  }
};
