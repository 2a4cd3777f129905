// Batches out of images: each number by its own place, in plain loops.
#include "case.h"

namespace selftest {

namespace {

struct Sizes {
  int64_t images, batch, height, width, depth;
};

template <class T>
void assemble(const Sizes& s, const std::vector<T>& images, bool moved, bool by_row, Random& random,
              const Emit& emit) {
  const int64_t factor_rows = by_row ? s.height : 1;
  const Floats scale = random.real(factor_rows * s.width * s.depth, 2.0);
  const Floats shift = random.real(factor_rows * s.width * s.depth, 1.0);
  Words indices;
  std::vector<int32_t> rows, columns;
  for (int64_t n = 0; n < s.batch; ++n) {
    indices.push_back(random.below(s.images));
    for (int64_t y = 0; y < s.height; ++y)
      rows.push_back(static_cast<int32_t>(moved ? random.below(s.height + 1) - 1 : y));
    for (int64_t x = 0; x < s.width; ++x)
      columns.push_back(static_cast<int32_t>(moved ? random.below(s.width + 1) - 1 : x));
  }
  Floats batch;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t y = 0; y < s.height; ++y)
      for (int64_t x = 0; x < s.width; ++x)
        for (int64_t c = 0; c < s.depth; ++c) {
          const int64_t row = rows[n * s.height + y], column = columns[n * s.width + x];
          const int64_t from = ((indices[n] * s.height + row) * s.width + column) * s.depth + c;
          const float number = row < 0 || column < 0 ? 0.0f : static_cast<float>(images[from]);
          const int64_t factor = ((by_row ? y : 0) * s.width + x) * s.depth + c;
          const float product = number * scale[factor];  // a statement of its own, for it is rounded
          batch.push_back(product + shift[factor]);
        }
  emit({"assemble",
        std::to_string(s.batch) + " of " + std::to_string(s.images) + ", " + std::to_string(s.height) + "×" +
            std::to_string(s.width) + "×" + std::to_string(s.depth) + (sizeof(T) == 1 ? ", bytes" : "") +
            (moved ? ", moved" : "") + (by_row ? ", factors by row" : ""),
        {s.images, s.batch, s.height, s.width, s.depth, sizeof(T) == 1, moved, factor_rows},
        {given_bytes(images), given(indices), moved ? given_bytes(rows) : left_out(),
         moved ? given_bytes(columns) : left_out(), given(scale), given(shift), made(batch)}});
}

}  // namespace

void assemble_cases(bool small, const Emit& emit) {
  Random random(8);
  for (const int64_t depth : {1, 2, 3, 4, 63, 64, 100})
    for (const int64_t width : {1, 7, small ? 9 : 1100}) {
      const Sizes sizes{5, 7, 3, width, depth};
      const Floats floats = random.real(5 * 3 * width * depth, 100.0);
      std::vector<uint8_t> bytes;
      for (size_t i = 0; i < floats.size(); ++i) bytes.push_back(static_cast<uint8_t>(random.below(256)));
      for (const bool moved : {false, true})
        for (const bool by_row : {false, true}) {
          assemble(sizes, floats, moved, by_row, random, emit);
          assemble(sizes, bytes, moved, by_row, random, emit);
        }
    }
}

}  // namespace selftest
