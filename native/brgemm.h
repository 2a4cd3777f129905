// The one contract that convolution, its two gradients and fully connected layers go through:
//
//   C[i][j] = finish(start + Σ_t Σ_k A_t[i·row_step + k·inner_step] · B_t[k·b_step + j])
//             for i < rows, j < columns, k < inner, t < count
//
// a batch-reduce GEMM (Georganas et al., "High-Performance Deep Learning via a Single Building
// Block", 2020). A is read through two steps, so one kernel serves x (row_step = channels,
// inner_step = 1) and xᵀ (row_step = 1, inner_step = channels). B lies in panels of `kPanel`
// columns: column j is column j % kPanel of panel j / kPanel, panels `panel_step` apart.
//
// `start` is C itself where `accumulate`, else bias[j], else 0. `finish` is max(·, 0) where `relu`,
// and then 0 wherever gate[i][j] <= 0 if there is a gate (the gradient of a ReLU whose output it is).
//
// Every C[i][j] adds its products one after another, t first, then k, whatever the tile it falls in:
// its bits depend neither on `rows` nor on how work is shared among threads.
#pragma once

#include <cstdint>

namespace hubel {

constexpr int64_t kPanel = 32;

// C and the gate are stored as T; numbers of type P are multiplied; the sums are floats.
//
// Where P is Bfloat16 (isa/pair_tile.h), numbers are multiplied in pairs: `inner` is even, `inner_step` 1,
// and B holds numbers k and k + 1 of a column side by side, B_t[k/2·b_step + 2·j + k%2]. The bias is added
// last.
template <class T, class P = float>
struct Brgemm {
  const P* const* a;
  const P* const* b;
  int64_t count;
  int64_t rows, columns, inner;
  int64_t row_step, inner_step;
  int64_t b_step, panel_step;
  T* c;
  int64_t c_step;
  bool accumulate;
  const float* bias;
  bool relu;
  const T* gate;
  int64_t gate_step;
};

}  // namespace hubel
