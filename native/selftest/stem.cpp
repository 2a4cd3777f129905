// The first convolution, from plain images, against six loops over plain (N, H, W, C) arrays.
#include "shape.h"

namespace selftest {

namespace {

Words behind(Words parameters, int64_t chunks, bool plain) {
  parameters.push_back(chunks);
  parameters.push_back(plain);
  return parameters;
}

// The images as people have them, or as maps.
Operand source(const Shape& s, const Numbers& n, bool plain) {
  return plain ? given(n.x) : given_map(x_blocks(s, n.x));
}

// Weights in the order (columns, rows, depth), in panels.
Floats windows(const Shape& s, const Floats& weight) {
  Floats packed;
  add_panels(
      1, s.rows * s.columns * s.depth, s.filters,
      [&](int64_t, int64_t i, int64_t k) {
        const int64_t c = i % s.depth, r = i / s.depth % s.rows, t = i / s.depth / s.rows;
        return weight[((r * s.columns + t) * s.depth + c) * s.filters + k];
      },
      packed);
  return packed;
}

std::string text(const Shape& s, int64_t chunks, bool plain, bool bias, bool relu) {
  return s.text() + ", chunks " + std::to_string(chunks) + (plain ? ", plain" : "") + (bias ? ", bias" : "") +
         (relu ? ", relu" : "");
}

void forward(const Shape& s, const Numbers& n, int64_t chunks, bool plain, bool real, const Emit& emit) {
  const size_t size = static_cast<size_t>(s.images * s.out_height * s.out_width * s.filters);
  for (const bool bias : {false, true})
    for (const bool relu : {false, true}) {
      Doubles y(size), magnitude(size);
      for (size_t i = 0; bias && i < size; ++i) y[i] = n.bias[i % s.filters];
      for (size_t i = 0; i < size; ++i) magnitude[i] = std::fabs(y[i]);
      s.each([&](int64_t x, int64_t to, int64_t w) {
        const double product = static_cast<double>(n.x[x]) * n.weight[w];
        y[to] += product;
        magnitude[to] += std::fabs(product);
      });
      for (double& value : y)
        if (relu && value < 0) value = 0;
      for (double& m : magnitude) m *= rounding(static_cast<double>(s.rows * s.columns * s.depth + 1));
      const Doubles allowed = real ? widened(y_blocks(s, rounded(magnitude))) : Doubles{};
      emit({"stem",
            text(s, chunks, plain, bias, relu),
            behind(s.parameters(bias, relu, false, true), chunks, plain),
            {source(s, n, plain), given(windows(s, n.weight)), bias ? given(n.bias) : left_out(),
             made_map(y_blocks(s, rounded(y)), allowed)}});
    }
}

void weight_grad(const Shape& s, const Numbers& n, int64_t chunks, bool plain, bool real, const Emit& emit) {
  Doubles dweight(n.weight.size()), dbias(n.bias.size());
  Doubles weight_off(n.weight.size()), bias_off(n.bias.size());
  s.each([&](int64_t x, int64_t y, int64_t w) {
    const double product = static_cast<double>(n.x[x]) * n.dy[y];
    dweight[w] += product;
    weight_off[w] += std::fabs(product);
  });
  for (size_t i = 0; i < n.dy.size(); ++i) {
    dbias[i % s.filters] += n.dy[i];
    bias_off[i % s.filters] += std::fabs(n.dy[i]);
  }
  // A product's rounding, the sums over places, and those over chunks.
  const double roundings = static_cast<double>(s.images * s.out_height * s.out_width + 1 + chunks);
  for (double& m : weight_off) m *= rounding(roundings);
  for (double& m : bias_off) m *= rounding(roundings);
  for (const bool bias : {false, true})
    emit({"stem_weight_grad",
          text(s, chunks, plain, bias, false),
          behind(s.parameters(bias, false, false, true), chunks, plain),
          {source(s, n, plain), given_map(y_blocks(s, n.dy)),
           workspace(chunks * (s.weights() + s.filters) * 4),
           made(rounded(dweight), real ? weight_off : Doubles{}),
           bias ? made(rounded(dbias), real ? bias_off : Doubles{}) : left_out()}});
}

void all(const Shape& given_shape, int64_t chunks, bool real, Random& random, const Emit& emit) {
  const Shape s = given_shape.whole();
  const auto drawn = [&](int64_t count) { return real ? random.real(count, 1.0) : random.whole(count, 3); };
  Numbers n;
  n.x = emit.stored(drawn(s.images * s.height * s.width * s.depth));
  n.weight = drawn(s.weights());
  n.bias = drawn(s.filters);
  n.dy = emit.stored(drawn(s.images * s.out_height * s.out_width * s.filters));
  emit({"stem_weights",
        s.text(),
        {s.rows, s.columns, s.depth, s.filters},
        {given(n.weight), made(windows(s, n.weight))}});
  for (const bool plain : {false, true}) {
    forward(s, n, chunks, plain, real, emit);
    weight_grad(s, n, chunks, plain, real, emit);
  }
}

}  // namespace

void stem_cases(bool small, const Emit& emit) {
  Random random(8);
  int64_t turn = 0;  // what is not swept changes from case to case
  for (int64_t rows = 2; rows <= 7; ++rows)
    for (int64_t columns = 2; columns <= 7; ++columns) {
      if (small && rows != columns) continue;
      ++turn;
      const int64_t block = int64_t{1} << turn % 5, blocks = 1 + turn % 2,
                    dilation = rows <= 4 ? 1 + turn % 3 : 1;
      const Shape s{block * blocks,    block,        9 + turn % 3, 7 + turn % 5, 1 + turn % 8,
                    1 + turn * 7 % 40, rows,         columns,      1 + turn % 3, 1 + turn / 3 % 3,
                    turn % 4,          turn / 2 % 4, dilation};
      all(s, 1 + turn % 4, false, random, emit);
    }
  for (int64_t depth = 1; depth <= 8; ++depth)
    for (const int64_t filters : {1, 16, 33})
      all({4, 4, 5, 6, depth, filters, 3, 3, 1, 1, 1, 1}, 2, false, random, emit);
  for (const int64_t block : {1, 2, 4, 8, 16})
    for (const int64_t stride : {1, 2, 3}) {
      const int64_t images = block * (block < 16 ? 2 : 1);
      all({images, block, 8, 9, 3, 10, 3, 3, stride, stride, 1, 1}, 3, false, random, emit);
      all({images, block, 9, 8, 3, 6, 5, 4, stride, 1, 2, 3, 2}, 100, false, random, emit);
      // More padding before than behind, none before, and windows that hang far over the end.
      all({images, block, 6, 7, 3, 5, 3, 3, stride, stride, 2, 2, 1, 1, 1, 2, 2}, 1, false, random, emit);
      all({images, block, 5, 6, 2, 5, 4, 4, 1, stride, 0, 0, 1, 1, 1, 5, 6}, 4, false, random, emit);
      if (small) break;
    }
  // Some rows, or all, of a window lie outside.
  all({2, 2, 2, 3, 3, 4, 3, 3, 4, 4, 0, 0, 1, 1, 1, 3, 2}, 2, false, random, emit);
  all({2, 1, 3, 3, 2, 3, 2, 2, 1, 1, 5, 5}, 2, false, random, emit);
  all({8, 8, 12, 12, 3, 32, 7, 7, 2, 2, 3, 3}, 4, true, random, emit);
  all({3, 1, 9, 9, 3, 20, 3, 3, 1, 1, 1, 1}, 5, true, random, emit);
}

}  // namespace selftest
