// brgemm.h's contract for pairs of bfloat16 numbers, over any PairUnit: blocks of C are summed up near the
// core, and finished from there.
#pragma once

// What a unit sums up: the products of `rows` rows of A and 16 · `vectors` columns of B, every operand
// `count` times moved to the next of the batch.
struct PairBlock {
  const Bfloat16* const* a;
  const Bfloat16* const* b;
  int64_t count, inner;
  int64_t a_offset, row_step;
  int64_t b_offset, b_step;
  int rows, vectors;
};

#include HUBEL_PAIR_UNIT

// Row `row` + i of C from row i of `sums`, in columns `column` … `column` + `width` - 1.
template <class T>
static void finish(const Brgemm<T, Bfloat16>& g, const float* sums, int64_t row, int64_t rows, int64_t column,
                   int64_t width) {
  for (int64_t i = 0; i < rows; ++i) {
    T* c = g.c + (row + i) * g.c_step + column;
    const T* gate = g.gate ? g.gate + (row + i) * g.gate_step + column : nullptr;
    by_vectors(width, [&](int64_t at, int lanes) {
      Vector x = load(sums + i * kPanel + at, lanes);
      if (g.accumulate) x = load(c + at, lanes) + x;
      if (g.bias) x = load(g.bias + column + at, lanes) + x;
      if (g.relu) x = Vector::positive(x);
      if (gate) x = Vector::where_positive(load(gate + at, lanes), x);
      store(x, c + at, lanes);
    });
  }
}

template <class T>
static void brgemm(const Brgemm<T, Bfloat16>& g) {
  if (g.rows <= 0 || g.columns <= 0) return;
  alignas(64) float sums[PairUnit::kTileRows * kPanel];
  const int64_t tiles = pieces(g.rows, PairUnit::kTileRows);
  for (int64_t panel = 0; panel * kPanel < g.columns; ++panel) {
    const int64_t width = lesser(g.columns - panel * kPanel, kPanel);
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t row = g.rows * i / tiles, rows = g.rows * (i + 1) / tiles - row;
      PairUnit::sum({g.a, g.b, g.count, g.inner, row * g.row_step, g.row_step, panel * g.panel_step, g.b_step,
                     static_cast<int>(rows), static_cast<int>(pieces(width, Vector::kWidth))},
                    sums);
      finish(g, sums, row, rows, panel * kPanel, width);
    }
  }
}
