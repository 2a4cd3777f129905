// Convolutions that read few channels, above all the first of a net. Copies of the rows that a row of outputs
// reads are interleaved, [column][row of the window][channel], so that a whole window follows one another in
// memory: its sum is one product with rows · columns · depth numbers inside, where tap by tap there would be
// depth. The images themselves are read as they are given, plain (N, H, W, C) floats.

struct StemCall {
  ConvCall conv;
  int64_t chunks;  // of rows of outputs
  int64_t plain;   // x is images as given, not maps in blocks

  int64_t window() const { return product(conv.taps(), conv.depth); }
  bool sensible() const {
    return moderate(*this) && conv.sensible() && chunks > 0 && conv.groups == 1 && conv.dilation_x == 1;
  }
};

// Weights (rows, columns, depth, filters) in the order of such a window, in panels.
struct StemWeightsCall {
  int64_t rows, columns, depth, filters;

  int64_t window() const { return product(rows, columns, depth); }
  // Where number `at` of a window lies among the weights.
  int64_t source(int64_t at) const {
    const int64_t c = at % depth, r = at / depth % rows, s = at / depth / rows;
    return ((r * columns + s) * depth + c) * filters;
  }
};

static bool stem_weights_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const StemWeightsCall*>(parameters);
  if (!moderate(p) || p.rows <= 0 || p.columns <= 0 || p.depth <= 0 || p.filters <= 0) return false;
  bytes[0] = product(p.window(), p.filters, 4);
  bytes[1] = product(packed_size(1, p.window(), p.filters, 1), 4);
  return true;
}

static void stem_weights(const Call& call, Threads& threads) {
  const auto& p = call.as<StemWeightsCall>();
  threads.each(pieces(p.filters, kPanel), [&](int64_t panel) {
    float* to = call.at<float>(1) + panel * p.window() * kPanel;
    const int64_t width = lesser(kPanel, p.filters - panel * kPanel);
    for (int64_t at = 0; at < p.window(); ++at, to += kPanel) {
      const float* from = call.at<float>(0) + p.source(at) + panel * kPanel;
      for (int64_t k = 0; k < width; ++k) to[k] = from[k];
      for (int64_t k = width; k < kPanel; ++k) to[k] = 0.0f;
    }
  });
}

// The interleaved rows of every image of a block, with zeros where there is padding.
struct StemRows {
  const ConvCall& p;
  float* room;  // [image][column][row of the window][depth]

  int64_t step() const { return p.rows * p.depth; }
  int64_t columns() const { return (p.out_width - 1) * p.stride_x + p.columns; }
  int64_t numbers() const { return columns() * step(); }
  static int64_t bytes(const ConvCall& p) { return product(p.block, StemRows{p, nullptr}.numbers(), 4); }

  const float* at(int64_t image) const { return room + image * numbers(); }

  // What row oy of block b's outputs reads. A pixel of an image lies at
  // from + ((b · block + image) · height + y) · width · depth, or for maps in their blocks.
  template <class T>
  void read(const T* from, bool plain, int64_t b, int64_t oy) const {
    const Maps maps = plain ? Maps{p.images, 1, p.height, p.width, p.depth} : p.x();
    const int64_t first = lesser(p.left, columns()), last = lesser(p.left + p.width, columns());
    // A column of the window then is one number of each of a few rows.
    if (plain && p.depth == 1 && p.rows <= kMostTurns) {
      for (int64_t image = 0; image < p.block; ++image)
        with_number(p.rows, [&](auto rows) {
          take_turns<rows.value>(from + (b * p.block + image) * p.height * p.width, oy, first, last,
                                 room + image * numbers());
        });
      return;
    }
    for (int64_t image = 0; image < p.block; ++image)
      for (int64_t r = 0; r < p.rows; ++r) {
        float* to = room + image * numbers() + r * p.depth;
        const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top;
        const bool inside = iy >= 0 && iy < p.height;
        const T* row = !inside ? nullptr
                       : plain ? from + maps.at(b * p.block + image, iy, 0)
                               : from + maps.at(b, iy, 0) + image * p.depth;
        fill(to, 0, inside ? first : columns());
        if (!inside) continue;
        copy(row, maps.pixel(), to + first * step(), last - first);
        fill(to, last, columns());
      }
  }

 private:
  template <int kRows, class T>
  void take_turns(const T* image, int64_t oy, int64_t first, int64_t last, float* to) const {
    fill_all(to, first);
    by_vectors(last - first, [&](int64_t at, int width) {
      Vector v[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top;
        const bool inside = iy >= 0 && iy < p.height;
        v[r] = inside ? load(image + iy * p.width + first - p.left + at, width) : Vector::zero();
      }
      interleave(v);
      store_all(v, to + (first + at) * kRows, width * kRows);
    });
    fill_all(to + last * kRows, columns() - last);
  }
  void fill_all(float* to, int64_t count) const {
    for (int64_t i = 0; i < count * step(); ++i) to[i] = 0.0f;
  }
  void fill(float* to, int64_t first, int64_t last) const {
    for (int64_t x = first; x < last; ++x)
      for (int64_t c = 0; c < p.depth; ++c) to[x * step() + c] = 0.0f;
  }
  template <class T>
  void copy(const T* from, int64_t pixel, float* to, int64_t count) const {
    const int64_t apart = step();
    if (p.depth == 1)
      for (int64_t x = 0; x < count; ++x) to[x * apart] = widened(from[x * pixel]);
    else
      for (int64_t x = 0; x < count; ++x, from += pixel, to += apart)
        for (int64_t c = 0; c < p.depth; c += Vector::kWidth) {
          const int some = static_cast<int>(lesser(Vector::kWidth, p.depth - c));
          store(load(from + c, some), to + c, some);
        }
  }
};

// Enough for either kernel.
template <class T>
static int64_t scratch(const StemCall& given) {
  const ConvCall& p = given.conv;
  return Batch<>::bytes(p.block) + StemRows::bytes(p) + (kCopied<T> ? product(p.y().row(), 4) : 0);
}

template <class T>
static int64_t stem_source(const StemCall& given) {
  return product(given.conv.x().size(), given.plain ? 4 : kBytes<T>);
}

template <class T>
static bool stem_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const StemCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible() || !p.packed) return false;
  bytes[0] = stem_source<T>(given);
  bytes[1] = product(packed_size(1, given.window(), p.filters, 1), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = product(p.y().size(), kBytes<T>);
  return true;
}

template <class T>
static void read_stem(const Call& call, const StemRows& x, int64_t b, int64_t oy) {
  if (call.as<StemCall>().plain)
    x.read(call.at<float>(0), true, b, oy);
  else
    x.read(call.at<T>(0), false, b, oy);
}

// y = relu(x ∗ W + bias)
template <class T>
static void stem(const Call& call, Threads& threads) {
  const auto& given = call.as<StemCall>();
  const ConvCall& p = given.conv;
  const Maps to = p.y();
  const int64_t rows = to.blocks() * to.height;
  threads.each_worker(given.chunks, [&](int64_t chunk, int worker) {
    Batch<> batch(threads.scratch(worker), p.block);
    const StemRows x{p, reinterpret_cast<float*>(batch.b + p.block)};
    for (int64_t row = rows * chunk / given.chunks; row < rows * (chunk + 1) / given.chunks; ++row) {
      const int64_t b = row / to.height, oy = row % to.height;
      read_stem<T>(call, x, b, oy);
      for (int64_t image = 0; image < p.block; ++image) {
        Brgemm<T> g{};
        g.rows = p.out_width;
        g.columns = p.filters;
        g.inner = given.window();
        g.row_step = p.stride_x * x.step();
        g.inner_step = 1;
        g.b_step = kPanel;
        g.panel_step = given.window() * kPanel;
        g.c = call.at<T>(3) + to.at(b, oy, 0) + image * p.filters;
        g.c_step = to.pixel();
        g.bias = p.has_bias ? call.at<float>(2) : nullptr;
        g.relu = p.relu != 0;
        batch.add(x.at(image), call.at<float>(1));
        batch.run(g);
      }
    }
  });
}

template <class T>
static bool stem_weight_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const StemCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible()) return false;
  bytes[0] = stem_source<T>(given);
  bytes[1] = product(p.y().size(), kBytes<T>);
  bytes[2] = product(given.chunks, p.weights() + p.filters, 4);
  bytes[3] = product(p.weights(), 4);
  bytes[4] = p.has_bias ? product(p.filters, 4) : 0;
  return true;
}

// dW = Σ xᵀ·dy, whose rows are the numbers of a window, and dbias = Σ dy. Filters too few to fill a vector
// are the rows instead: dWᵀ = Σ dyᵀ·x.
template <class T>
static void stem_weight_grad(const Call& call, Threads& threads) {
  const auto& given = call.as<StemCall>();
  const ConvCall& p = given.conv;
  const Maps from = p.y();
  const int64_t rows = from.blocks() * from.height, weights = p.weights();
  const bool few = p.filters < Vector::kWidth;
  float* partial_bias = call.at<float>(2);
  float* partial = partial_bias + given.chunks * p.filters;
  float* bias = p.has_bias ? call.at<float>(4) : nullptr;
  threads.each_worker(given.chunks, [&](int64_t chunk, int worker) {
    Batch<> batch(threads.scratch(worker), p.block);
    const StemRows x{p, reinterpret_cast<float*>(batch.b + p.block)};
    float* copy = x.room + p.block * x.numbers();
    float* sum = partial + chunk * weights;
    float* bias_sum = partial_bias + chunk * p.filters;
    for (int64_t i = 0; i < weights; ++i) sum[i] = 0.0f;
    for (int64_t k = 0; k < p.filters; ++k) bias_sum[k] = 0.0f;
    for (int64_t row = rows * chunk / given.chunks; row < rows * (chunk + 1) / given.chunks; ++row) {
      const int64_t b = row / from.height, oy = row % from.height;
      const float* dy = read_as(call.at<T>(1) + from.at(b, oy, 0), from.row(), copy);
      read_stem<T>(call, x, b, oy);
      const int64_t x_step = p.stride_x * x.step(), dy_step = from.pixel();
      for (int64_t image = 0; image < p.block; ++image) {
        const float* filters = dy + image * p.filters;
        few ? batch.add(filters, x.at(image)) : batch.add(x.at(image), filters);
      }
      Brgemm<float> g{};
      g.rows = few ? p.filters : given.window();
      g.columns = few ? given.window() : p.filters;
      g.inner = p.out_width;
      g.row_step = 1;
      g.inner_step = few ? dy_step : x_step;
      g.b_step = few ? x_step : dy_step;
      g.panel_step = kPanel;
      g.c = sum;
      g.c_step = g.columns;
      g.accumulate = true;
      batch.run(g);
      if (bias) add_rows(dy, p.out_width * p.block, p.filters, bias_sum);
    }
  });
  add_partial_sums(partial, given.chunks, weights, partial, threads);
  const StemWeightsCall order{p.rows, p.columns, p.depth, p.filters};
  for (int64_t at = 0; at < given.window(); ++at)
    for (int64_t k = 0; k < p.filters; ++k)
      call.at<float>(3)[order.source(at) + k] = partial[few ? k * given.window() + at : at * p.filters + k];
  if (bias) add_partial_sums(partial_bias, given.chunks, p.filters, bias, threads);
}
