// Convolution and its gradients against six loops over plain (N, H, W, C) arrays.
#include <cmath>
#include <utility>

#include "shape.h"

namespace selftest {

namespace {

struct Cut {
  int64_t chunks, parts;

  std::string text() const {
    return ", chunks " + std::to_string(chunks) + ", parts " + std::to_string(parts);
  }
  Words behind(Words parameters) const {
    parameters.push_back(chunks);
    parameters.push_back(parts);
    return parameters;
  }
};

// Ways to share out rows and panels: not at all, each row alone, unevenly, and more tasks than there is work.
std::vector<Cut> cuts(const Shape& s, int64_t rows) {
  std::vector<Cut> found{{1, 1}, {rows, 1}, {rows + 3, 1}};
  if (s.groups == 1)
    for (const Cut& cut : {Cut{1, 2}, Cut{2, 3}, Cut{rows, 5}}) found.push_back(cut);
  return found;
}

// Fewer for pairs, whose instructions may be carried out in software: the sweep is that of the others.
std::vector<Cut> pair_cuts(const Shape& s) { return {{1, 1}, {3, s.groups == 1 ? 2 : 1}}; }

// y = relu(x ∗ W + bias), with the magnitudes that bound its rounding where `real`.
void forward(const Shape& s, const Numbers& n, bool real, const Emit& emit) {
  const size_t size = static_cast<size_t>(s.images * s.out_height * s.out_width * s.filters);
  for (const bool bias : {false, true})
    for (const bool relu : {false, true})
      for (const bool packed : {false, true}) {
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
        // A product's rounding, and those of the sums that it becomes part of.
        for (double& m : magnitude)
          m *= rounding(static_cast<double>(s.rows * s.columns * s.group_depth() + 1));
        const Doubles allowed = widened(y_blocks(s, rounded(magnitude)));
        const std::string what = s.text() + (bias ? ", bias" : "") + (relu ? ", relu" : "");
        const Operand x = given_map(x_blocks(s, n.x)), biases = bias ? given(n.bias) : left_out();
        const Operand made_y = made_map(y_blocks(s, rounded(y)), real ? allowed : Doubles{});
        if (s.grouped() && !packed)
          emit({"grouped",
                what,
                s.parameters(bias, relu, false, false),
                {x, given(n.weight), biases, made_y}});
        if (s.groups == 1 && s.stride_x == 1 && s.filters <= 8 && !packed) {
          Words parameters = s.parameters(bias, relu, false, true);
          parameters.push_back(0);
          emit({"narrow", what, parameters, {x, given(n.weight), biases, left_out(), made_y}});
        }
        if (packed && s.group_depth() % 2 == 0 && is_bfloat16(n.x) && is_bfloat16(n.weight))
          for (const Cut& cut : pair_cuts(s))
            emit({"pair_conv",
                  what + cut.text(),
                  cut.behind(s.parameters(bias, relu, false, true)),
                  {as_bfloat16(given(x_blocks(s, n.x))),
                   as_bfloat16(given(paired(panels(s, n.weight, false)))), biases,
                   as_bfloat16(made(y_blocks(s, rounded(y)), real ? allowed : Doubles{}))}});
        for (const Cut& cut : cuts(s, s.images / s.block * s.out_height))
          emit({"conv",
                s.text() + cut.text() + (bias ? ", bias" : "") + (relu ? ", relu" : "") +
                    (packed ? ", packed" : ""),
                cut.behind(s.parameters(bias, relu, false, packed)),
                {given_map(x_blocks(s, n.x)), given(packed ? panels(s, n.weight, false) : n.weight),
                 bias ? given(n.bias) : left_out(),
                 made_map(y_blocks(s, rounded(y)), real ? allowed : Doubles{})}});
      }
}

// A group's weights with its channels and its filters exchanged.
Floats turned(const Shape& s, const Floats& weight) {
  const int64_t each = s.group_depth();
  Floats made(weight.size());
  for (int64_t t = 0; t < s.rows * s.columns; ++t)
    for (int64_t c = 0; c < each; ++c)
      for (int64_t k = 0; k < s.filters; ++k)
        made[(t * each + k % each) * s.depth + k / each * each + c] = weight[(t * each + c) * s.filters + k];
  return made;
}

void input_grad(const Shape& s, const Numbers& n, const Emit& emit) {
  Doubles dx(n.x.size());
  s.each([&](int64_t x, int64_t y, int64_t w) { dx[x] += static_cast<double>(n.dy[y]) * n.weight[w]; });
  for (const bool gate : {false, true}) {
    for (size_t i = 0; gate && i < dx.size(); ++i)
      if (n.gate[i] <= 0) dx[i] = 0;
    const std::string what = s.text() + (gate ? ", gate" : "");
    const Operand dy = given_map(y_blocks(s, n.dy)), weight = given(n.weight);
    const Operand gates = gate ? given_map(x_blocks(s, n.gate)) : left_out();
    const Operand made_dx = made_map(x_blocks(s, rounded(dx)));
    if (s.grouped())
      emit({"grouped_input_grad",
            what,
            s.parameters(false, false, gate, false),
            {dy, given(turned(s, n.weight)), gates, made_dx}});
    if (s.groups == 1 && s.stride_x == 1 && s.depth <= 8) {
      Words parameters = s.parameters(false, false, gate, true);
      parameters.push_back(1);
      emit({"narrow", what + ", backward", parameters, {dy, weight, left_out(), gates, made_dx}});
    }
    if (s.group_filters() % 2 == 0 && is_bfloat16(n.dy))
      for (const Cut& cut : pair_cuts(s))
        emit({"pair_conv_input_grad",
              what + cut.text(),
              cut.behind(s.parameters(false, false, gate, true)),
              {as_bfloat16(given(y_blocks(s, n.dy))), as_bfloat16(given(paired(panels(s, n.weight, true)))),
               gate ? as_bfloat16(given(x_blocks(s, n.gate))) : left_out(),
               as_bfloat16(made(x_blocks(s, rounded(dx))))}});
    for (const Cut& cut : cuts(s, s.images / s.block * s.height))
      emit({"conv_input_grad",
            s.text() + cut.text() + (gate ? ", gate" : ""),
            cut.behind(s.parameters(false, false, gate, true)),
            {given_map(y_blocks(s, n.dy)), given(panels(s, n.weight, true)),
             gate ? given_map(x_blocks(s, n.gate)) : left_out(), made_map(x_blocks(s, rounded(dx)))}});
  }
}

void turn(const Shape& s, const Numbers& n, const Emit& emit) {
  if (!s.grouped()) return;
  emit({"turn_groups",
        s.text(),
        {s.rows * s.columns, s.depth, s.filters, s.groups, 1},
        {given(n.weight), made(turned(s, n.weight))}});
}

void weight_grad(const Shape& s, const Numbers& n, const Emit& emit) {
  Doubles dweight(n.weight.size()), dbias(n.bias.size());
  s.each([&](int64_t x, int64_t y, int64_t w) { dweight[w] += static_cast<double>(n.x[x]) * n.dy[y]; });
  for (size_t i = 0; i < n.dy.size(); ++i) dbias[i % s.filters] += n.dy[i];
  const int64_t rows = s.images / s.block * s.out_height;
  for (const Cut& cut : {Cut{1, 1}, Cut{2, 3}, Cut{rows, 1}, Cut{rows + 2, 5}, Cut{3, 1000}})
    for (const bool bias : {false, true}) {
      const int64_t chunks = cut.chunks;
      if (s.grouped()) {
        Words parameters = s.parameters(bias, false, false, true);
        parameters.push_back(chunks);
        emit({"grouped_weight_grad",
              s.text() + cut.text() + (bias ? ", bias" : ""),
              parameters,
              {given_map(x_blocks(s, n.x)), given_map(y_blocks(s, n.dy)),
               workspace(chunks * (s.weights() + s.filters) * 4), made(rounded(dweight)),
               bias ? made(rounded(dbias)) : left_out()}});
      }
      if (s.groups == 1 && s.block == 16)
        emit({"pair_conv_weight_grad",
              s.text() + cut.text() + (bias ? ", bias" : ""),
              cut.behind(s.parameters(bias, false, false, true)),
              {as_bfloat16(given(x_blocks(s, n.x))), as_bfloat16(given(y_blocks(s, n.dy))),
               workspace(chunks * (s.weights() + s.filters) * 4), made(rounded(dweight)),
               bias ? made(rounded(dbias)) : left_out()}});
      emit({"conv_weight_grad",
            s.text() + cut.text() + (bias ? ", bias" : ""),
            cut.behind(s.parameters(bias, false, false, true)),
            {given_map(x_blocks(s, n.x)), given_map(y_blocks(s, n.dy)),
             workspace(chunks * ((chunks > 1 ? s.weights() : 0) + s.filters) * 4), made(rounded(dweight)),
             bias ? made(rounded(dbias)) : left_out()}});
    }
}

void all(const Shape& given_shape, Random& random, const Emit& emit) {
  const Shape s = given_shape.whole();
  const int64_t inputs = s.images * s.height * s.width * s.depth;
  Numbers n;
  n.x = random.whole(inputs, 3);
  n.weight = random.whole(s.weights(), 3);
  n.bias = random.whole(s.filters, 9);
  n.dy = random.whole(s.images * s.out_height * s.out_width * s.filters, 3);
  n.gate = random.whole(inputs, 1);
  forward(s, n, false, emit);
  turn(s, n, emit);
  input_grad(s, n, emit);
  weight_grad(s, n, emit);
}

// NaN and what is no whole number: it spreads to every output that reads it and to no other, through
// ReLU too; a gate that is NaN lets the gradient pass.
void special(Random& random, const Emit& emit) {
  const Shape s = Shape{4, 4, 5, 6, 3, 35, 3, 3, 1, 1, 1, 1}.whole();
  Numbers n;
  n.x = random.whole(s.images * s.height * s.width * s.depth, 3);
  n.weight = random.whole(s.weights(), 3);
  n.bias = random.whole(s.filters, 9);
  n.x[100] = not_a_number();
  const size_t size = static_cast<size_t>(s.images * s.out_height * s.out_width * s.filters);
  Doubles y(size);
  for (size_t i = 0; i < size; ++i) y[i] = n.bias[i % s.filters];
  s.each([&](int64_t x, int64_t to, int64_t w) { y[to] += static_cast<double>(n.x[x]) * n.weight[w]; });
  for (double& value : y)
    if (value < 0) value = 0;
  emit({"conv",
        "NaN through relu",
        Cut{1, 1}.behind(s.parameters(true, true, false, true)),
        {given_map(x_blocks(s, n.x)), given(panels(s, n.weight, false)), given(n.bias),
         made_map(y_blocks(s, rounded(y)))}});

  n.dy = random.whole(static_cast<int64_t>(size), 3);
  n.gate = random.whole(static_cast<int64_t>(n.x.size()), 1);
  for (size_t i = 0; i < n.gate.size(); i += 7) n.gate[i] = not_a_number();
  Doubles dx(n.x.size());
  s.each([&](int64_t x, int64_t from, int64_t w) { dx[x] += static_cast<double>(n.dy[from]) * n.weight[w]; });
  for (size_t i = 0; i < dx.size(); ++i)
    if (n.gate[i] <= 0) dx[i] = 0;
  emit({"conv_input_grad",
        "NaN as a gate",
        Cut{1, 1}.behind(s.parameters(false, false, true, true)),
        {given_map(y_blocks(s, n.dy)), given(panels(s, n.weight, true)), given_map(x_blocks(s, n.gate)),
         made_map(x_blocks(s, rounded(dx)))}});

  const Shape own = Shape{4, 4, 5, 6, 19, 19, 3, 3, 1, 1, 1, 1, 1, 1, 19}.whole();
  const int64_t inputs = own.images * own.height * own.width * own.depth;
  Numbers each;
  each.x = random.whole(inputs, 3);
  each.weight = random.whole(own.weights(), 3);
  each.bias = random.whole(own.filters, 9);
  each.x[100] = not_a_number();
  each.dy = random.whole(inputs, 3);
  each.dy[200] = not_a_number();
  each.gate = random.whole(inputs, 1);
  for (size_t i = 0; i < each.gate.size(); i += 7) each.gate[i] = not_a_number();
  forward(own, each, false, emit);
  input_grad(own, each, emit);

  Numbers real;
  const Shape wide = Shape{8, 8, 6, 6, 19, 40, 3, 3, 1, 1, 1, 1}.whole();
  real.x = emit.stored(random.real(wide.images * wide.height * wide.width * wide.depth, 1.0));
  real.weight = random.real(wide.weights(), 1.0);
  real.bias = random.real(wide.filters, 1.0);
  forward(wide, real, true, emit);
  const Shape apart = Shape{8, 8, 6, 6, 19, 19, 5, 5, 1, 1, 2, 2, 1, 1, 19}.whole();
  real.x = emit.stored(random.real(apart.images * apart.height * apart.width * apart.depth, 1.0));
  real.weight = random.real(apart.weights(), 1.0);
  real.bias = random.real(apart.filters, 1.0);
  forward(apart, real, true, emit);
  const Shape grouped = Shape{2, 2, 6, 6, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 8}.whole();
  real.x = emit.stored(random.real(grouped.images * grouped.height * grouped.width * grouped.depth, 1.0));
  real.weight = random.real(grouped.weights(), 1.0);
  real.bias = random.real(grouped.filters, 1.0);
  forward(grouped, real, true, emit);
  const Shape deep = Shape{16, 16, 4, 6, 66, 40, 3, 3, 1, 1, 1, 1}.whole();
  const auto held = [](const Floats& numbers) { return from_bfloat16(to_bfloat16(numbers)); };
  real.x = held(random.real(deep.images * deep.height * deep.width * deep.depth, 1.0));
  real.weight = held(random.real(deep.weights(), 1.0));
  real.bias = random.real(deep.filters, 1.0);
  forward(deep, real, true, emit);
}

}  // namespace

void conv_cases(bool small, const Emit& emit) {
  Random random(2);
  // Every width of a tile and a panel, and every number of rows in a tile.
  for (const int64_t filters : {1, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65})
    all({2, 2, 3, 3, 3, filters, 2, 2}, random, emit);
  for (int64_t width = 1; width <= (small ? 5 : 27); ++width) all({1, 1, 1, width, 2, 5, 1, 1}, random, emit);
  for (const int64_t depth : {1, 2, 5, 12, 13, 24, 25, 33}) all({1, 1, 4, 4, depth, 6, 3, 3}, random, emit);
  for (const int64_t block : {1, 2, 4, 8, 16})
    for (const int64_t blocks : {1, 2}) {
      const int64_t images = block * blocks;
      all({images, block, 5, 6, 3, 10, 3, 3, 1, 1, 1, 1}, random, emit);
      all({images, block, 7, 6, 5, 9, 3, 2, 2, 2, 1, 0}, random, emit);
      all({images, block, 6, 6, 4, 6, 2, 3, 1, 1, 1, 2, 2, 2, 2}, random, emit);
      all({images, block, 4, 3, 7, 11, 4, 3}, random, emit);  // a fully connected layer
      all({images, block, 1, 1, 13, 34, 1, 1}, random, emit);
      if (small) break;
    }
  for (const int64_t block : {1, 4}) {
    const int64_t images = 4;
    all({images, block, 7, 9, 3, 5, 3, 3, 2, 3}, random, emit);  // strides alike and not
    all({images, block, 9, 9, 3, 5, 1, 1, 3, 4}, random, emit);  // larger than the window
    all({images, block, 9, 7, 2, 3, 2, 2, 3, 1, 1, 1}, random, emit);
    all({images, block, 3, 4, 2, 3, 3, 3, 1, 1, 4, 5}, random, emit);  // padding beyond the window
    all({images, block, 3, 4, 2, 3, 1, 2, 2, 2, 3, 3}, random, emit);
    all({images, block, 9, 8, 3, 4, 3, 2, 2, 1, 2, 1, 3, 2}, random, emit);  // dilation
    all({images, block, 9, 9, 3, 4, 3, 3, 3, 2, 3, 2, 2, 3}, random, emit);
    all({images, block, 4, 4, 1, 1, 3, 3, 1, 1, 1, 1}, random, emit);
    all({images, block, 5, 6, 6, 9, 3, 3, 1, 1, 1, 1, 1, 1, 3}, random, emit);  // groups
    all({images, block, 5, 5, 17, 17, 3, 3, 2, 2, 1, 1, 1, 1, 17}, random, emit);
    all({images, block, 3, 3, 4, 80, 2, 2, 1, 1, 0, 0, 1, 1, 2}, random, emit);
    // Windows that hang over the end, and padding at the end alone.
    all({images, block, 5, 6, 3, 4, 3, 3, 2, 2, 0, 0, 1, 1, 1, 3, 3}, random, emit);
    all({images, block, 4, 5, 3, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 4, 5}, random, emit);
    all({images, block, 2, 2, 3, 4, 3, 3, 4, 4, 0, 0, 1, 1, 1, 3, 2}, random, emit);  // some read nothing
    all({images, block, 11, 10, 2, 3, 9, 9, 1, 1, 4, 4}, random, emit);  // more taps than one batch
    if (!small) all({images, block, 3, 200, 2, 3, 1, 3, 1, 1, 0, 1}, random, emit);
  }
  // One filter a channel: every width of a strip, whole and odd vectors, windows, strides, dilations.
  for (int64_t width = 1; width <= (small ? 4 : 18); ++width) {
    all({2, 2, 3, width, 5, 5, 3, 3, 1, 1, 1, 1, 1, 1, 5}, random, emit);
    all({2, 2, 3, 2 * width, 5, 5, 3, 3, 2, 2, 1, 1, 1, 1, 5}, random, emit);
  }
  for (const int64_t depth : {2, 4, 7, 16, 17, 32, 35})
    all({2, 1, 4, 5, depth, depth, 3, 3, 1, 1, 1, 1, 1, 1, depth}, random, emit);
  for (const int64_t block : {1, 2, 16}) {
    const int64_t images = block == 16 ? 32 : 2;
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {2, 2}, {5, 5}, {1, 4}, {7, 7}})
      for (const int64_t stride : {1, 2, 3})
        all({images, block, 9, 8, 3, 3, rows, columns, stride, stride, rows / 2, columns / 2, 1, 1, 3},
            random, emit);
    all({images, block, 9, 11, 18, 18, 3, 3, 1, 1, 2, 2, 2, 2, 18}, random, emit);
    all({images, block, 9, 11, 4, 4, 3, 5, 2, 2, 3, 4, 2, 3, 4}, random, emit);
    all({images, block, 9, 10, 4, 4, 3, 3, 3, 4, 3, 1, 2, 2, 4}, random, emit);
    all({images, block, 4, 40, 2, 2, 2, 37, 1, 1, 0, 20, 1, 1, 2}, random, emit);
    if (small) break;
  }
  if (!small) all({16, 16, 40, 5, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 3}, random, emit);  // many rows a task
  // Several channels a group: those that have kernels of their own, widths of a strip, windows, strides.
  for (const int64_t each : {2, 4, 8})
    for (const int64_t groups : {2, 6, 8})
      if (groups * each % 16 == 0)
        all({2, 1, 3, 4, groups * each, groups * each, 3, 3, 1, 1, 1, 1, 1, 1, groups}, random, emit);
  for (int64_t width = 1; width <= (small ? 2 : 9); ++width) {
    all({2, 2, 3, width, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 4}, random, emit);
    all({2, 2, 3, 2 * width, 32, 32, 3, 3, 2, 2, 1, 1, 1, 1, 2}, random, emit);
  }
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {2, 2}, {5, 5}, {1, 4}})
    for (const int64_t stride : {1, 2, 3})
      all({2, 1, 7, 8, 16, 16, rows, columns, stride, stride, rows / 2, columns / 2, 1, 1, 2}, random, emit);
  all({16, 16, 5, 6, 32, 32, 3, 3, 2, 2, 1, 1, 2, 2, 8}, random, emit);
  if (!small) {
    all({2, 1, 40, 12, 2, 3, 3, 3, 1, 1, 1, 1}, random, emit);  // more rows than one pass
    all({256, 256, 2, 3, 2, 3, 2, 2}, random, emit);            // a block larger than one pass
    all({16, 16, 9, 9, 33, 70, 3, 3, 2, 2, 1, 1}, random, emit);
    all({32, 16, 8, 8, 16, 32, 3, 3, 1, 1, 1, 1}, random, emit);
  }
  // Pairs of numbers: every height of a tile, sums in one piece and in several, odd widths, strides, and
  // windows that hang over.
  for (int64_t width = 1; width <= (small ? 5 : 36); ++width)
    all({1, 1, 2, width, 6, 33, 1, 3, 1, 1, 0, 1}, random, emit);
  for (const int64_t depth : {2, 16, 30, 32, 34, 48, 66}) {
    all({16, 16, 3, 3, depth, 18, 3, 3, 1, 1, 1, 1}, random, emit);
    all({16, 16, 2, 5, 6, depth, 3, 3, 1, 1, 1, 1}, random, emit);
  }
  all({32, 16, 5, 7, 10, 34, 3, 3, 2, 2, 1, 1}, random, emit);
  all({32, 16, 6, 5, 4, 6, 2, 3, 1, 1, 1, 2, 2, 2}, random, emit);
  all({16, 16, 5, 6, 4, 8, 3, 3, 2, 2, 0, 0, 1, 1, 1, 3, 3}, random, emit);
  all({32, 16, 1, 1, 40, 50, 1, 1}, random, emit);
  all({16, 16, 4, 3, 6, 12, 4, 3}, random, emit);
  if (!small) all({16, 16, 3, 40, 4, 6, 3, 3, 1, 1, 1, 1}, random, emit);  // rows longer than one pass
  special(random, emit);
}

}  // namespace selftest
