// Maps to blocks and back, channels copied, and weights laid into panels.
#include "shape.h"

namespace selftest {

namespace {

struct Sizes {
  int64_t images, block, height, width, depth;
};

void maps(const Sizes& s, Random& random, const Emit& emit) {
  const Words parameters{s.images, s.block, s.height, s.width, s.depth};
  const Floats plain = random.whole(s.images * s.height * s.width * s.depth, 1000);
  const Floats laid = in_blocks(plain, s.images, s.block, s.height * s.width, s.depth);
  const std::string what = std::to_string(s.images) + " images in blocks of " + std::to_string(s.block) +
                           ", " + std::to_string(s.height) + "×" + std::to_string(s.width) + "×" +
                           std::to_string(s.depth);
  emit({"pack_maps", what, parameters, {given(plain), made_map(laid)}});
  emit({"unpack_maps", what, parameters, {given_map(emit.stored(laid)), made(emit.stored(plain))}});
}

void channels(int64_t rows, int64_t depth, int64_t from_depth, int64_t from_at, int64_t to_depth,
              int64_t to_at, Random& random, const Emit& emit) {
  const Floats from = emit.stored(random.whole(rows * from_depth, 1000));
  const Floats before = emit.stored(random.whole(rows * to_depth, 1000));
  Floats after = before;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t c = 0; c < depth; ++c)
      after[row * to_depth + to_at + c] = from[row * from_depth + from_at + c];
  emit({"copy_channels",
        std::to_string(depth) + " of " + std::to_string(from_depth) + " to " + std::to_string(to_depth),
        {rows, depth, from_depth, from_at, to_depth, to_at},
        {given_map(from), changed_map(before, after)}});
}

void widened(int64_t size, Random& random, const Emit& emit) {
  const std::vector<uint16_t> narrow = to_bfloat16(random.real(size, 1000));
  emit({"widen", std::to_string(size), {size}, {given_bytes(narrow), made(from_bfloat16(narrow))}});
}

void weights(int64_t taps, int64_t depth, int64_t filters, int64_t groups, bool backward, Random& random,
             const Emit& emit) {
  const int64_t c = depth / groups, k = filters / groups, columns = backward ? c : k,
                inner = backward ? k : c;
  const Floats weight = random.whole(taps * c * filters, 1000);
  Floats packed;
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t start = 0; start < columns; start += 32)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t i = 0; i < inner; ++i)
          for (int64_t j = start; j < start + 32; ++j) {
            const int64_t channel = backward ? j : i, filter = backward ? i : j;
            packed.push_back(j < columns ? weight[(t * c + channel) * filters + g * k + filter] : 0.0f);
          }
  const std::string what = std::to_string(taps) + " taps, " + std::to_string(depth) + " to " +
                           std::to_string(filters) + " in " + std::to_string(groups) + " groups" +
                           (backward ? ", backward" : "");
  const Words parameters{taps, depth, filters, groups, backward};
  emit({"pack_weights", what, parameters, {given(weight), made(packed)}});
  if (inner % 2 == 0)
    emit({"pair_weights", what, parameters, {given(weight), made_bytes(to_bfloat16(paired(packed)))}});
}

}  // namespace

void layout_cases(bool small, const Emit& emit) {
  Random random(1);
  for (const int64_t block : {1, 2, 4, 8, 16})
    for (const int64_t blocks : {1, 3})
      for (const int64_t depth : {1, 3, 17}) {
        maps({block * blocks, block, 1, 1, depth}, random, emit);
        maps({block * blocks, block, 5, 4, depth}, random, emit);
      }
  for (const int64_t rows : {1, 7, small ? 8 : 5000}) {
    channels(rows, 5, 5, 0, 5, 0, random, emit);
    channels(rows, 3, 7, 2, 9, 6, random, emit);
    channels(rows, 33, 33, 0, 40, 7, random, emit);
  }
  for (const int64_t size : {1, 17, small ? 100 : 40000}) widened(size, random, emit);
  for (const bool backward : {false, true}) {
    for (const int64_t depth : {1, 3, 31, 32, 33, 65})
      for (const int64_t filters : {1, 10, 32, 64, 67}) weights(9, depth, filters, 1, backward, random, emit);
    weights(1, 12, 8, 4, backward, random, emit);
    weights(4, 17, 17, 17, backward, random, emit);
    weights(3, 70, 140, 2, backward, random, emit);
  }
}

}  // namespace selftest
