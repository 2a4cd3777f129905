// The most arithmetic that the instruction set can do: multiply-adds on registers alone, none of which
// waits for the one before it. As many run side by side as a tile of brgemm_tile.h has sums.
#pragma once

// Returns how many floating-point operations they were, two a multiply-add. They begin with `*number` and
// end in it, so that no compiler can leave them out.
static int64_t multiply_adds(int64_t rounds, float* number) {
  constexpr int kSums = Vector::kTileRows * Vector::kTileVectors;
  const Vector factor = Vector::all(*number), term = Vector::all(1.0f - *number);
  Vector sums[kSums];
  for (Vector& sum : sums) sum = factor;
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kSums; ++i) sums[i] = Vector::multiply_add(sums[i], factor, term);
  }
  float last[Vector::kWidth];
  for (const Vector& sum : sums) {
    sum.store(last);
    *number += last[0];
  }
  return rounds * kSums * Vector::kWidth * 2;
}
