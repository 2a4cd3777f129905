// The first convolution of a net, whose images have few channels. They are read as they are given, plain
// (N, H, W, C) floats: the taps of a filter's row then follow one another, and are one product of matrices
// with columns · depth numbers inside where tap by tap there would be depth. Maps come out in blocks.

struct StemCall {
  ConvCall conv;
  int64_t chunks;  // of rows of outputs

  bool sensible() const {
    return moderate(*this) && conv.sensible() && chunks > 0 && conv.groups == 1 && conv.dilation_x == 1 &&
           conv.packed;
  }
};

// Copies of the rows of images that a row of outputs reads, with zeros where there is padding.
struct StemRows {
  const ConvCall& p;
  const float* images;
  float* room;  // [image of the block][tap down][numbers()]

  int64_t numbers() const {
    return greater(p.width + p.left, (p.out_width - 1) * p.stride_x + p.columns) * p.depth;
  }
  static int64_t bytes(const ConvCall& p) {
    return product(p.block, p.rows, StemRows{p, nullptr, nullptr}.numbers(), 4);
  }

  float* at(int64_t image, int64_t r) const { return room + (image * p.rows + r) * numbers(); }

  // The rows that row oy of outputs reads from one image of block b; those outside are left as they are.
  bool inside(int64_t oy, int64_t r) const {
    const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top;
    return iy >= 0 && iy < p.height;
  }
  void read(int64_t b, int64_t oy) const {
    const int64_t before = p.left * p.depth, all = numbers();
    const int64_t taken = lesser(p.width * p.depth, all - before);
    for (int64_t i = 0; i < p.block; ++i)
      for (int64_t r = 0; r < p.rows; ++r) {
        if (!inside(oy, r)) continue;
        const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top;
        const float* from = images + ((b * p.block + i) * p.height + iy) * p.width * p.depth;
        float* to = at(i, r);
        for (int64_t e = 0; e < before; ++e) to[e] = 0.0f;
        for (int64_t e = 0; e < taken; ++e) to[before + e] = from[e];
        for (int64_t e = before + taken; e < all; ++e) to[e] = 0.0f;
      }
  }
};

// Enough for either kernel.
template <class T>
static int64_t scratch(const StemCall& given) {
  const ConvCall& p = given.conv;
  const int64_t copies = kCopied<T> ? product(p.y().row(), 4) : 0;
  return Batch::bytes(greater(p.rows, p.block)) + StemRows::bytes(p) + copies;
}

template <class T>
static bool stem_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const StemCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible()) return false;
  bytes[0] = product(p.x().size(), 4);
  bytes[1] = product(packed_size(p.taps(), p.depth, p.filters, 1), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = product(p.y().size(), kBytes<T>);
  return true;
}

// y = relu(x ∗ W + bias)
template <class T>
static void stem(const Call& call, Threads& threads) {
  const auto& given = call.as<StemCall>();
  const ConvCall& p = given.conv;
  const Maps to = p.y();
  const int64_t rows = to.blocks() * to.height, tap_row = p.columns * p.depth * kPanel;
  threads.each_worker(given.chunks, [&](int64_t chunk, int worker) {
    Batch batch(threads.scratch(worker), p.rows);
    const StemRows x{p, call.at<float>(0), reinterpret_cast<float*>(batch.b + p.rows)};
    for (int64_t row = rows * chunk / given.chunks; row < rows * (chunk + 1) / given.chunks; ++row) {
      const int64_t b = row / to.height, oy = row % to.height;
      x.read(b, oy);
      for (int64_t i = 0; i < p.block; ++i) {
        for (int64_t r = 0; r < p.rows; ++r)
          if (x.inside(oy, r)) batch.add(x.at(i, r), call.at<float>(1) + r * tap_row);
        Brgemm<T> g{};
        g.rows = p.out_width;
        g.columns = p.filters;
        g.inner = p.columns * p.depth;
        g.row_step = p.stride_x * p.depth;
        g.inner_step = 1;
        g.b_step = kPanel;
        g.panel_step = p.rows * tap_row;
        g.c = call.at<T>(3) + to.at(b, oy, 0) + i * p.filters;
        g.c_step = to.pixel();
        g.bias = p.has_bias ? call.at<float>(2) : nullptr;
        g.relu = p.relu != 0;
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
  bytes[0] = product(p.x().size(), 4);
  bytes[1] = product(p.y().size(), kBytes<T>);
  bytes[2] = product(given.chunks, p.weights() + p.filters, 4);
  bytes[3] = product(p.weights(), 4);
  bytes[4] = p.has_bias ? product(p.filters, 4) : 0;
  return true;
}

// dW of one row of taps = Σ xᵀ·dy, whose rows are that row's (tap, channel); and dbias = Σ dy.
template <class T>
static void stem_weight_grad(const Call& call, Threads& threads) {
  const auto& given = call.as<StemCall>();
  const ConvCall& p = given.conv;
  const Maps from = p.y();
  const int64_t rows = from.blocks() * from.height, weights = p.weights();
  float* partial_bias = call.at<float>(2);
  float* partial = partial_bias + given.chunks * p.filters;
  float* bias = p.has_bias ? call.at<float>(4) : nullptr;
  threads.each_worker(given.chunks, [&](int64_t chunk, int worker) {
    Batch batch(threads.scratch(worker), p.block);
    const StemRows x{p, call.at<float>(0), reinterpret_cast<float*>(batch.b + p.block)};
    float* copy = x.room + p.block * p.rows * x.numbers();
    float* sum = partial + chunk * weights;
    float* bias_sum = partial_bias + chunk * p.filters;
    for (int64_t i = 0; i < weights; ++i) sum[i] = 0.0f;
    for (int64_t k = 0; k < p.filters; ++k) bias_sum[k] = 0.0f;
    for (int64_t row = rows * chunk / given.chunks; row < rows * (chunk + 1) / given.chunks; ++row) {
      const int64_t b = row / from.height, oy = row % from.height;
      const float* dy = as_floats(call.at<T>(1) + from.at(b, oy, 0), from.row(), copy);
      x.read(b, oy);
      for (int64_t r = 0; r < p.rows; ++r) {
        if (!x.inside(oy, r)) continue;
        for (int64_t i = 0; i < p.block; ++i) batch.add(x.at(i, r), dy + i * p.filters);
        Brgemm<float> g{};
        g.rows = p.columns * p.depth;
        g.columns = p.filters;
        g.inner = p.out_width;
        g.row_step = 1;
        g.inner_step = p.stride_x * p.depth;
        g.b_step = from.pixel();
        g.panel_step = kPanel;
        g.c = sum + r * p.columns * p.depth * p.filters;
        g.c_step = p.filters;
        g.accumulate = true;
        batch.run(g);
      }
      if (bias) add_rows(dy, p.out_width * p.block, p.filters, bias_sum);
    }
  });
  add_partial_sums(partial, given.chunks, weights, call.at<float>(3), threads);
  if (bias) add_partial_sums(partial_bias, given.chunks, p.filters, bias, threads);
}
