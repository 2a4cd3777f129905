// Convolution and its gradients against six loops over plain (N, H, W, C) arrays.
#include <cmath>

#include "case.h"

namespace selftest {

namespace {

struct Shape {
  int64_t images, block;
  int64_t height, width, depth, filters;
  int64_t rows, columns;
  int64_t stride_y = 1, stride_x = 1, top = 0, left = 0, dilation_y = 1, dilation_x = 1, groups = 1;
  int64_t out_height = 0, out_width = 0;  // 0: as many whole windows as fit, with as much padding behind

  int64_t group_depth() const { return depth / groups; }
  int64_t group_filters() const { return filters / groups; }
  int64_t weights() const { return rows * columns * group_depth() * filters; }
  bool depthwise() const { return groups == depth && filters == depth; }

  // With the sizes of the output filled in.
  Shape whole() const {
    Shape s = *this;
    if (s.out_height == 0) s.out_height = (height + 2 * top - (rows - 1) * dilation_y - 1) / stride_y + 1;
    if (s.out_width == 0) s.out_width = (width + 2 * left - (columns - 1) * dilation_x - 1) / stride_x + 1;
    return s;
  }

  std::string text() const {
    const auto pair = [](int64_t a, int64_t b) { return std::to_string(a) + "×" + std::to_string(b); };
    return std::to_string(images) + " images in blocks of " + std::to_string(block) + ", " +
           pair(height, width) + "×" + std::to_string(depth) + " to " + pair(out_height, out_width) + "×" +
           std::to_string(filters) + ", window " + pair(rows, columns) + ", stride " +
           pair(stride_y, stride_x) + ", padding " + pair(top, left) + ", dilation " +
           pair(dilation_y, dilation_x) + ", groups " + std::to_string(groups);
  }

  Words parameters(bool bias, bool relu, bool gate, bool packed) const {
    return {images,     block,      height,  width,    depth,    out_height, out_width,
            filters,    rows,       columns, stride_y, stride_x, top,        left,
            dilation_y, dilation_x, groups,  bias,     relu,     gate,       packed};
  }

  // Calls visit(x index, y index, weight index) for every product of the convolution.
  template <class Visit>
  void each(const Visit& visit) const {
    for (int64_t n = 0; n < images; ++n)
      for (int64_t oy = 0; oy < out_height; ++oy)
        for (int64_t ox = 0; ox < out_width; ++ox)
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t s = 0; s < columns; ++s) {
              const int64_t iy = oy * stride_y + r * dilation_y - top;
              const int64_t ix = ox * stride_x + s * dilation_x - left;
              if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
              for (int64_t k = 0; k < filters; ++k)
                for (int64_t c = 0; c < group_depth(); ++c)
                  visit(((n * height + iy) * width + ix) * depth + k / group_filters() * group_depth() + c,
                        ((n * out_height + oy) * out_width + ox) * filters + k,
                        ((r * columns + s) * group_depth() + c) * filters + k);
            }
  }
};

// Weights as panels of 32 columns: [group][panel][tap][inner][32].
Floats panels(const Shape& s, const Floats& weight, bool backward) {
  const int64_t inner = backward ? s.group_filters() : s.group_depth();
  const int64_t columns = backward ? s.group_depth() : s.group_filters();
  Floats packed;
  for (int64_t g = 0; g < s.groups; ++g)
    for (int64_t start = 0; start < columns; start += 32)
      for (int64_t t = 0; t < s.rows * s.columns; ++t)
        for (int64_t i = 0; i < inner; ++i)
          for (int64_t j = start; j < start + 32; ++j) {
            const int64_t c = backward ? j : i, k = g * s.group_filters() + (backward ? i : j);
            packed.push_back(j < columns ? weight[(t * s.group_depth() + c) * s.filters + k] : 0.0f);
          }
  return packed;
}

// Numbers of maps as a kernel keeps them, and what it adds to its name.
struct Storage {
  const char* suffix;
  Operand (*given)(const Floats&);
  Operand (*made)(const Floats&, const Doubles& allowed);
  bool rounds;  // what is no small whole number
};

// To the nearest bfloat16, of two equally near the even one.
std::vector<uint16_t> halves(const Floats& values) {
  std::vector<uint16_t> found;
  for (const float& value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    found.push_back(static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16));
  }
  return found;
}

Operand given_halves(const Floats& values) { return given_bytes(halves(values)); }

Operand made_halves(const Floats& values, const Doubles&) {
  Operand made = given_halves(values);
  made.before.assign(made.after.size(), 0xff);
  return made;
}

Operand given_floats(const Floats& values) { return given(values); }
Operand made_floats(const Floats& values, const Doubles& allowed) { return made(values, allowed); }

const Storage kStorages[] = {{"", given_floats, made_floats, false},
                             {"_bf16", given_halves, made_halves, true}};

struct Numbers {
  Floats x, weight, bias, dy, gate;
};

Floats x_blocks(const Shape& s, const Floats& plain) {
  return in_blocks(plain, s.images, s.block, s.height * s.width, s.depth);
}

Floats y_blocks(const Shape& s, const Floats& plain) {
  return in_blocks(plain, s.images, s.block, s.out_height * s.out_width, s.filters);
}

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
        // Each of so many additions and products rounds what it makes, at most the sum of magnitudes.
        const double steps = static_cast<double>(2 * s.rows * s.columns * s.group_depth() + 1);
        for (double& m : magnitude) m *= 0.5 * kEps * steps;
        Floats allowed = y_blocks(s, rounded(magnitude));
        const Doubles off = real ? widened(allowed) : Doubles{};
        for (const Storage& storage : kStorages)
          if (s.depthwise() && !packed && !(real && storage.rounds))
            emit({std::string("depthwise") + storage.suffix,
                  s.text() + (bias ? ", bias" : "") + (relu ? ", relu" : ""),
                  s.parameters(bias, relu, false, false),
                  {storage.given(x_blocks(s, n.x)), given(n.weight), bias ? given(n.bias) : left_out(),
                   storage.made(y_blocks(s, rounded(y)), off)}});
        emit({"conv",
              s.text() + (bias ? ", bias" : "") + (relu ? ", relu" : "") + (packed ? ", packed" : ""),
              s.parameters(bias, relu, false, packed),
              {given(x_blocks(s, n.x)), given(packed ? panels(s, n.weight, false) : n.weight),
               bias ? given(n.bias) : left_out(), made(y_blocks(s, rounded(y)), off)}});
      }
}

void input_grad(const Shape& s, const Numbers& n, const Emit& emit) {
  Doubles dx(n.x.size());
  s.each([&](int64_t x, int64_t y, int64_t w) { dx[x] += static_cast<double>(n.dy[y]) * n.weight[w]; });
  for (const bool gate : {false, true}) {
    for (size_t i = 0; gate && i < dx.size(); ++i)
      if (n.gate[i] <= 0) dx[i] = 0;
    for (const Storage& storage : kStorages)
      if (s.depthwise())
        emit({std::string("depthwise_input_grad") + storage.suffix,
              s.text() + (gate ? ", gate" : ""),
              s.parameters(false, false, gate, false),
              {storage.given(y_blocks(s, n.dy)), given(n.weight),
               gate ? storage.given(x_blocks(s, n.gate)) : left_out(),
               storage.made(x_blocks(s, rounded(dx)), {})}});
    emit({"conv_input_grad",
          s.text() + (gate ? ", gate" : ""),
          s.parameters(false, false, gate, true),
          {given(y_blocks(s, n.dy)), given(panels(s, n.weight, true)),
           gate ? given(x_blocks(s, n.gate)) : left_out(), made(x_blocks(s, rounded(dx)))}});
  }
}

void weight_grad(const Shape& s, const Numbers& n, const Emit& emit) {
  Doubles dweight(n.weight.size()), dbias(n.bias.size());
  s.each([&](int64_t x, int64_t y, int64_t w) { dweight[w] += static_cast<double>(n.x[x]) * n.dy[y]; });
  for (size_t i = 0; i < n.dy.size(); ++i) dbias[i % s.filters] += n.dy[i];
  const int64_t rows = s.images / s.block * s.out_height;
  const int64_t cuts[][2] = {{1, 1}, {2, 3}, {rows, 1}, {rows + 2, 5}, {3, 1000}};
  for (const auto& [chunks, parts] : cuts)
    for (const bool bias : {false, true}) {
      const Operand dweights = made(rounded(dweight)), dbiases = bias ? made(rounded(dbias)) : left_out();
      const std::string what = s.text() + ", chunks " + std::to_string(chunks) + (bias ? ", bias" : "");
      Words parameters = s.parameters(bias, false, false, true);
      parameters.push_back(chunks);
      for (const Storage& storage : kStorages)
        if (s.depthwise())
          emit({std::string("depthwise_weight_grad") + storage.suffix,
                what,
                parameters,
                {storage.given(x_blocks(s, n.x)), storage.given(y_blocks(s, n.dy)),
                 workspace(chunks * (s.weights() + s.filters) * 4), dweights, dbiases}});
      parameters.push_back(parts);
      emit({"conv_weight_grad",
            what + ", parts " + std::to_string(parts),
            parameters,
            {given(x_blocks(s, n.x)), given(y_blocks(s, n.dy)),
             workspace(chunks * ((chunks > 1 ? s.weights() : 0) + s.filters) * 4), dweights, dbiases}});
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
        s.parameters(true, true, false, true),
        {given(x_blocks(s, n.x)), given(panels(s, n.weight, false)), given(n.bias),
         made(y_blocks(s, rounded(y)))}});

  n.dy = random.whole(static_cast<int64_t>(size), 3);
  n.gate = random.whole(static_cast<int64_t>(n.x.size()), 1);
  for (size_t i = 0; i < n.gate.size(); i += 7) n.gate[i] = not_a_number();
  Doubles dx(n.x.size());
  s.each([&](int64_t x, int64_t from, int64_t w) { dx[x] += static_cast<double>(n.dy[from]) * n.weight[w]; });
  for (size_t i = 0; i < dx.size(); ++i)
    if (n.gate[i] <= 0) dx[i] = 0;
  emit({"conv_input_grad",
        "NaN as a gate",
        s.parameters(false, false, true, true),
        {given(y_blocks(s, n.dy)), given(panels(s, n.weight, true)), given(x_blocks(s, n.gate)),
         made(x_blocks(s, rounded(dx)))}});

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
  real.x = random.real(wide.images * wide.height * wide.width * wide.depth, 1.0);
  real.weight = random.real(wide.weights(), 1.0);
  real.bias = random.real(wide.filters, 1.0);
  forward(wide, real, true, emit);
  const Shape apart = Shape{8, 8, 6, 6, 19, 19, 5, 5, 1, 1, 2, 2, 1, 1, 19}.whole();
  real.x = random.real(apart.images * apart.height * apart.width * apart.depth, 1.0);
  real.weight = random.real(apart.weights(), 1.0);
  real.bias = random.real(apart.filters, 1.0);
  forward(apart, real, true, emit);
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
  if (!small) {
    all({2, 1, 40, 12, 2, 3, 3, 3, 1, 1, 1, 1}, random, emit);  // more rows than one pass
    all({256, 256, 2, 3, 2, 3, 2, 2}, random, emit);            // a block larger than one pass
    all({16, 16, 9, 9, 33, 70, 3, 3, 2, 2, 1, 1}, random, emit);
    all({32, 16, 8, 8, 16, 32, 3, 3, 1, 1, 1, 1}, random, emit);
  }
  special(random, emit);
}

}  // namespace selftest
