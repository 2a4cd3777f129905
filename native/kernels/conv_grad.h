// The gradient of a convolution by its weights, as products of floats.

// dW_tap = Σ over (image, pixel) of xᵀ·dy, and dbias = Σ dy. The sum is cut into `chunks` runs of map
// rows, each with a partial result of its own, added up in order at the end; the weights are cut into
// `parts` runs of (tap, panel). Both numbers follow from the sizes alone, so the bits do too.
struct WeightGradCall {
  ConvCall conv;
  int64_t chunks, parts;
};

template <class T>
static bool conv_weight_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const WeightGradCall*>(parameters);
  if (!p.conv.sensible() || !moderate(p) || p.chunks < 1 || p.parts < 1) return false;
  bytes[0] = product(p.conv.x().size(), kBytes<T>);
  bytes[1] = product(p.conv.y().size(), kBytes<T>);
  bytes[2] = product(p.chunks, (p.chunks > 1 ? p.conv.weights() : 0) + p.conv.filters, 4);
  bytes[3] = product(p.conv.weights(), 4);
  bytes[4] = p.conv.has_bias ? product(p.conv.filters, 4) : 0;
  return true;
}

// One pass works on rows of output maps, numbered block by block, that keep about this many GEMM rows of x
// and dy in the nearest cache while every tap reads them.
constexpr int64_t kRowsAtOnce = 192;

template <class T>
struct WeightGrad {
  const ConvCall& p;
  const T* x;
  const T* dy;

  int64_t width() const { return greater(1, lesser(p.out_width, kRowsAtOnce / p.block)); }
  int64_t together() const { return greater(1, kRowsAtOnce / (p.out_width * p.block)); }
  bool even() const { return p.block == 1 || p.stride_x == 1; }
  int64_t products() const { return product(together(), even() ? 1 : width()); }

  // In scratch memory: rows of x by (row of y, tap down) and of dy as floats, null outside; then the operands
  // of a product; then the copies.
  int64_t scratch() const {
    const int64_t pointers = product(together(), p.rows + 1, sizeof(float*));
    const int64_t copies = product(together(), product(p.rows, p.x().row()) + p.y().row(), 4);
    return pointers + Batch<>::bytes(products()) + (kCopied<T> ? copies : 0) + kLine;
  }

  void run(int64_t first, int64_t last, int64_t part, int64_t parts, float* weight, float* bias,
           void* scratch) const {
    const auto** rows = static_cast<const float**>(scratch);
    const Pass pass{*this, rows, rows + together() * (p.rows + 1), weight};
    const int64_t units = p.groups * pieces(p.group_filters(), kPanel) * p.taps();
    for (int64_t row = first; row < last; row += together()) {
      const int64_t end = lesser(last, row + together());
      pass.read(row, end);
      for (int64_t ox = 0; ox < p.out_width; ox += width())
        for (int64_t unit = units * part / parts; unit < units * (part + 1) / parts; ++unit)
          pass.unit(end - row, ox, lesser(p.out_width, ox + width()), unit);
      if (part == 0 && bias) pass.sum_rows(end - row, bias);
    }
  }

 private:
  struct Pass {
    const WeightGrad& work;
    const float** rows;
    void* room;
    float* weight;

    void read(int64_t row, int64_t end) const {
      const ConvCall& p = work.p;
      float* copy = reinterpret_cast<float*>(static_cast<char*>(room) + Batch<>::bytes(work.products()));
      for (int64_t i = row; i < end; ++i) {
        const int64_t b = i / p.out_height, oy = i % p.out_height;
        const float** found = rows + (i - row) * (p.rows + 1);
        for (int64_t r = 0; r < p.rows; ++r, copy += p.x().row()) {
          const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top;
          const bool inside = iy >= 0 && iy < p.height;
          found[r] = inside ? read_as(work.x + p.x().at(b, iy, 0), p.x().row(), copy) : nullptr;
        }
        found[p.rows] = read_as(work.dy + p.y().at(b, oy, 0), p.y().row(), copy);
        copy += p.y().row();
      }
    }

    // One tap and panel, for output columns ox … ox_end - 1 of `count` rows.
    void unit(int64_t count, int64_t ox, int64_t ox_end, int64_t number) const {
      const ConvCall& p = work.p;
      const int64_t panels = pieces(p.group_filters(), kPanel);
      const int64_t tap = number % p.taps(), panel = number / p.taps() % panels;
      const int64_t group = number / p.taps() / panels;
      const int64_t r = tap / p.columns, s = tap % p.columns;
      // The output columns whose tap lies inside the map.
      const int64_t shift = s * p.dilation_x - p.left;
      ox = greater(ox, shift >= 0 ? 0 : pieces(-shift, p.stride_x));
      ox_end = lesser(ox_end, p.width > shift ? pieces(p.width - shift, p.stride_x) : 0);
      if (ox >= ox_end) return;
      const int64_t column = group * p.group_filters() + panel * kPanel;
      const int64_t step = work.even() ? ox_end - ox : 1;
      Brgemm<float> g{};
      g.rows = p.group_depth();
      g.columns = lesser(kPanel, p.group_filters() - panel * kPanel);
      g.inner = step * p.block;
      g.row_step = 1;
      g.inner_step = p.depth * (p.block == 1 ? p.stride_x : 1);
      g.b_step = p.filters;
      g.c = weight + tap * p.group_depth() * p.filters + column;
      g.c_step = p.filters;
      g.accumulate = true;
      Batch<> batch(room, work.products());
      for (int64_t i = 0; i < count; ++i) {
        const float* const* found = rows + i * (p.rows + 1);
        if (found[r] == nullptr) continue;
        for (int64_t at = ox; at < ox_end; at += step)
          batch.add(found[r] + (at * p.stride_x + shift) * p.x().pixel() + group * p.group_depth(),
                    found[p.rows] + at * p.y().pixel() + column);
      }
      batch.run(g);
    }

    void sum_rows(int64_t count, float* bias) const {
      const ConvCall& p = work.p;
      for (int64_t i = 0; i < count; ++i)
        add_rows(rows[i * (p.rows + 1) + p.rows], p.out_width * p.block, p.filters, bias);
    }
  };
};

template <class T>
static int64_t scratch(const WeightGradCall& given) {
  return WeightGrad<T>{given.conv, nullptr, nullptr}.scratch();
}

template <class T>
static void conv_weight_grad(const Call& call, Threads& threads) {
  const auto& given = call.as<WeightGradCall>();
  const ConvCall& p = given.conv;
  const WeightGrad<T> work{p, call.at<T>(0), call.at<T>(1)};
  float* partial_bias = call.at<float>(2);
  float* weight = call.at<float>(3);
  float* bias = p.has_bias ? call.at<float>(4) : nullptr;
  float* partial = given.chunks > 1 ? partial_bias + given.chunks * p.filters : weight;
  sum_chunks(given, work, partial, partial_bias, threads);
  if (given.chunks > 1) add_partial_sums(partial, given.chunks, p.weights(), weight, threads);
  if (bias) add_partial_sums(partial_bias, given.chunks, p.filters, bias, threads);
}
