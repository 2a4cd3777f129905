// Convolution, its two gradients, and fully connected layers (a convolution whose window is the whole
// map): loops around brgemm. A row of a GEMM is one (pixel, image); a filter tap is one GEMM of the
// batch; taps that fall outside the map are left out, not padded with zeros.

struct ConvCall {
  int64_t images, block;
  int64_t height, width, depth;            // of x
  int64_t out_height, out_width, filters;  // of y
  int64_t rows, columns;                   // of the window
  int64_t stride_y, stride_x;
  int64_t top, left;
  int64_t dilation_y, dilation_x;
  int64_t groups;
  int64_t has_bias, relu, has_gate;
  int64_t packed;  // weights lie in panels; else as (taps, depth/groups, filters), forward only

  Maps x() const { return {images, block, height, width, depth}; }
  Maps y() const { return {images, block, out_height, out_width, filters}; }
  int64_t taps() const { return product(rows, columns); }
  int64_t group_depth() const { return depth / groups; }
  int64_t group_filters() const { return filters / groups; }
  int64_t weights() const { return product(taps(), group_depth(), filters); }
  bool sensible() const {
    return moderate(*this) && images > 0 && block > 0 && images % block == 0 && height > 0 && width > 0 &&
           depth > 0 && out_height > 0 && out_width > 0 && filters > 0 && rows > 0 && columns > 0 &&
           stride_y > 0 && stride_x > 0 && top >= 0 && left >= 0 && dilation_y > 0 && dilation_x > 0 &&
           groups > 0 && depth % groups == 0 && filters % groups == 0;
  }
};

// Where along one axis an output position reads: source = (position · scale + offset_t) / divisor for
// tap t, where that is whole and lies in the map. Forward scales by the stride, the gradient by x
// divides by it.
struct Axis {
  int64_t scale, divisor, taps, tap_step, shift, sources;

  // The first of the sources that tap t has for positions phase, phase + divisor, …; false for none.
  bool reads(int64_t phase, int64_t t, int64_t* first) const {
    const int64_t number = phase * scale + shift + t * tap_step;
    if (number % divisor != 0) return false;
    *first = number / divisor;
    return true;
  }
};

static Axis forward_axis(int64_t stride, int64_t taps, int64_t dilation, int64_t padding, int64_t sources) {
  return {stride, 1, taps, dilation, -padding, sources};
}

static Axis backward_axis(int64_t stride, int64_t taps, int64_t dilation, int64_t padding, int64_t sources) {
  return {1, stride, taps, -dilation, padding, sources};
}

// Positions first, first + step, …, `count` of them, that the same taps serve.
struct Segment {
  int64_t phase, start, count;
};

// The next segment of positions phase + divisor·j from j = start on, up to `length` positions.
static Segment next_segment(const Axis& axis, int64_t phase, int64_t start, int64_t length) {
  int64_t end = length;
  for (int64_t t = 0; t < axis.taps; ++t) {
    int64_t first;
    if (!axis.reads(phase, t, &first)) continue;
    // Sources first + scale·j lie inside for j in [low, high).
    const int64_t low = first >= 0 ? 0 : pieces(-first, axis.scale);
    const int64_t high = first < axis.sources ? pieces(axis.sources - first, axis.scale) : 0;
    if (low > start) end = lesser(end, low);
    if (high > start) end = lesser(end, high);
  }
  return {phase, start, end - start};
}

// The operands of one run of the batch-reduce GEMM, collected tap by tap.
struct Batch {
  static constexpr int kMost = 64;
  const float* a[kMost];
  const float* b[kMost];
  int64_t count = 0;
  Brgemm g;

  void begin(const Brgemm& shape) {
    g = shape;
    g.a = a;
    g.b = b;
    count = 0;
  }
  void add(const float* left, const float* right) {
    if (count == kMost) {
      Brgemm part = g;
      part.count = count;
      part.relu = false;
      part.gate = nullptr;
      brgemm(part);
      g.accumulate = true;
      count = 0;
    }
    a[count] = left;
    b[count] = right;
    ++count;
  }
  void end() {
    g.count = count;
    brgemm(g);
  }
};

// One row of output maps from rows of source maps: y[o] = Σ_taps source[…]·W_tap, for one group.
struct Sweep {
  Axis down, along;
  Maps source, target;
  int64_t inner, columns;        // depth of a group on the source's and the target's side
  int64_t source_at, target_at;  // the group's first channel on either side
  const float* from;
  const float* weights;                              // of the group
  int64_t tap_step, b_step, panel_step, group_step;  // how they lie
  float* to;
  const float* bias;
  const float* gate;
  bool relu;

  void row(int64_t b, int64_t y) const {
    const int64_t phases = along.divisor;
    for (int64_t phase = 0; phase < lesser(phases, target.width); ++phase) {
      const int64_t length = pieces(target.width - phase, phases);
      for (int64_t start = 0; start < length;) {
        const Segment segment = next_segment(along, phase, start, length);
        run(b, y, segment);
        start += segment.count;
      }
    }
  }

 private:
  void run(int64_t b, int64_t y, const Segment& segment) const {
    // Pixels of a segment follow one another evenly in memory if they are whole neighbours or single
    // images; otherwise each is a run of its own.
    const bool even = source.block == 1 || (along.scale == 1 && along.divisor == 1);
    const int64_t runs = even ? 1 : segment.count;
    for (int64_t i = 0; i < runs; ++i) {
      const int64_t j = segment.start + i;
      const int64_t x = segment.phase + along.divisor * j;
      const int64_t pixels = even ? segment.count : 1;
      const int64_t offset = target.at(b, y, x) + target_at;
      Brgemm g{};
      g.rows = pixels * source.block;
      g.columns = columns;
      g.inner = inner;
      g.row_step = source.depth * (source.block == 1 ? along.scale : 1);
      g.inner_step = 1;
      g.b_step = b_step;
      g.panel_step = panel_step;
      g.c = to + offset;
      g.c_step = target.depth * (source.block == 1 ? along.divisor : 1);
      g.bias = bias;
      g.relu = relu;
      g.gate = gate ? gate + offset : nullptr;
      g.gate_step = g.c_step;
      Batch batch;
      batch.begin(g);
      collect(b, y, segment.phase, j, batch);
      batch.end();
    }
  }

  void collect(int64_t b, int64_t y, int64_t phase, int64_t j, Batch& batch) const {
    for (int64_t r = 0; r < down.taps; ++r) {
      int64_t sy;
      if (!down.reads(y, r, &sy) || sy < 0 || sy >= down.sources) continue;
      for (int64_t s = 0; s < along.taps; ++s) {
        int64_t sx;
        if (!along.reads(phase, s, &sx)) continue;
        sx += j * along.scale;
        if (sx < 0 || sx >= along.sources) continue;
        batch.add(from + source.at(b, sy, sx) + source_at, weights + (r * along.taps + s) * tap_step);
      }
    }
  }
};

static int64_t packed_size(int64_t taps, int64_t inner, int64_t columns, int64_t groups) {
  return product(groups, pieces(columns, kPanel), taps, inner, kPanel);
}

// Weights (taps, depth/groups, filters) laid into panels: [group][panel][tap][inner][kPanel], for the
// gradient by x with depth and filters exchanged. What lies past the last column is zero.
struct PackCall {
  int64_t taps, depth, filters, groups, backward;

  int64_t inner() const { return (backward ? filters : depth) / groups; }
  int64_t columns() const { return (backward ? depth : filters) / groups; }
  bool sensible() const {
    return moderate(*this) && taps > 0 && depth > 0 && filters > 0 && groups > 0 && depth % groups == 0 &&
           filters % groups == 0;
  }
};

static bool pack_weights_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PackCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.taps, p.depth / p.groups, p.filters, 4);
  bytes[1] = product(packed_size(p.taps, p.inner(), p.columns(), p.groups), 4);
  return true;
}

static void pack_weights(const Call& call, Threads& threads) {
  const auto& p = call.as<PackCall>();
  const float* weight = call.at<float>(0);
  float* packed = call.at<float>(1);
  const int64_t panels = pieces(p.columns(), kPanel);
  const int64_t depth = p.depth / p.groups, filters = p.filters / p.groups;
  threads.each(p.groups * panels * p.taps, [&](int64_t task) {
    const int64_t tap = task % p.taps, panel = task / p.taps % panels, group = task / p.taps / panels;
    float* to = packed + task * p.inner() * kPanel;
    const float* from = weight + tap * depth * p.filters + group * filters;
    const int64_t width = lesser(p.columns() - panel * kPanel, kPanel);
    for (int64_t k = 0; k < p.inner(); ++k, to += kPanel) {
      for (int64_t j = 0; j < width; ++j) {
        const int64_t column = panel * kPanel + j;
        to[j] = p.backward ? from[column * p.filters + k] : from[k * p.filters + column];
      }
      for (int64_t j = width; j < kPanel; ++j) to[j] = 0.0f;
    }
  });
}

// y = relu(x ∗ W + bias)
static bool conv_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const ConvCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.x().size(), 4);
  const int64_t panels = packed_size(p.taps(), p.group_depth(), p.group_filters(), p.groups);
  bytes[1] = product(p.packed ? panels : p.weights(), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = product(p.y().size(), 4);
  return true;
}

static void lay_panels(Sweep& sweep) {
  sweep.tap_step = sweep.inner * kPanel;
  sweep.b_step = kPanel;
  sweep.panel_step = sweep.down.taps * sweep.along.taps * sweep.tap_step;
  sweep.group_step = pieces(sweep.columns, kPanel) * sweep.panel_step;
}

static void sweep_rows(const Sweep& sweep, int64_t groups, Threads& threads) {
  threads.each(sweep.target.blocks() * sweep.target.height, [&](int64_t task) {
    const int64_t b = task / sweep.target.height, y = task % sweep.target.height;
    Sweep part = sweep;
    for (int64_t g = 0; g < groups; ++g) {
      part.source_at = g * sweep.inner;
      part.target_at = g * sweep.columns;
      part.weights = sweep.weights + g * sweep.group_step;
      part.bias = sweep.bias ? sweep.bias + g * sweep.columns : nullptr;
      part.row(b, y);
    }
  });
}

static void conv(const Call& call, Threads& threads) {
  const auto& p = call.as<ConvCall>();
  Sweep sweep{};
  sweep.down = forward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.height);
  sweep.along = forward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.width);
  sweep.source = p.x();
  sweep.target = p.y();
  sweep.inner = p.group_depth();
  sweep.columns = p.group_filters();
  sweep.from = call.at<float>(0);
  sweep.weights = call.at<float>(1);
  sweep.bias = p.has_bias ? call.at<float>(2) : nullptr;
  sweep.to = call.at<float>(3);
  sweep.relu = p.relu != 0;
  if (p.packed) {
    lay_panels(sweep);
  } else {
    sweep.tap_step = p.group_depth() * p.filters;
    sweep.b_step = p.filters;
    sweep.panel_step = kPanel;
    sweep.group_step = p.group_filters();
  }
  sweep_rows(sweep, p.groups, threads);
}

// dx = dy ∗ Wᵀ, closed where the gate (x itself, a ReLU's output) is not positive
static bool conv_input_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const ConvCall*>(parameters);
  if (!p.sensible() || !p.packed) return false;
  bytes[0] = product(p.y().size(), 4);
  bytes[1] = product(packed_size(p.taps(), p.group_filters(), p.group_depth(), p.groups), 4);
  bytes[2] = p.has_gate ? product(p.x().size(), 4) : 0;
  bytes[3] = product(p.x().size(), 4);
  return true;
}

static void conv_input_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<ConvCall>();
  Sweep sweep{};
  sweep.down = backward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.out_height);
  sweep.along = backward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.out_width);
  sweep.source = p.y();
  sweep.target = p.x();
  sweep.inner = p.group_filters();
  sweep.columns = p.group_depth();
  sweep.from = call.at<float>(0);
  sweep.weights = call.at<float>(1);
  sweep.gate = p.has_gate ? call.at<float>(2) : nullptr;
  sweep.to = call.at<float>(3);
  lay_panels(sweep);
  sweep_rows(sweep, p.groups, threads);
}

// dW_tap = Σ over (image, pixel) of xᵀ·dy, and dbias = Σ dy. The sum is cut into `chunks` runs of map
// rows, each with a partial result of its own, added up in order at the end; the weights are cut into
// `parts` runs of (tap, panel). Both numbers follow from the sizes alone, so the bits do too.
struct WeightGradCall {
  ConvCall conv;
  int64_t chunks, parts;
};

// Of the operands behind x and dy: workspace, dweight and dbias.
static void weight_grad_sizes(const ConvCall& p, int64_t chunks, int64_t* bytes) {
  bytes[2] = product(chunks, (chunks > 1 ? p.weights() : 0) + p.filters, 4);
  bytes[3] = product(p.weights(), 4);
  bytes[4] = p.has_bias ? product(p.filters, 4) : 0;
}

static bool conv_weight_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const WeightGradCall*>(parameters);
  if (!p.conv.sensible() || !moderate(p) || p.chunks < 1 || p.parts < 1) return false;
  bytes[0] = product(p.conv.x().size(), 4);
  bytes[1] = product(p.conv.y().size(), 4);
  weight_grad_sizes(p.conv, p.chunks, bytes);
  return true;
}

struct WeightGrad {
  const ConvCall& p;
  const float* x;
  const float* dy;

  // Rows of output maps are numbered block by block. One pass keeps about this many GEMM rows of x and
  // dy in the nearest cache while every tap reads them.
  static constexpr int64_t kRowsAtOnce = 192;

  void run(int64_t first, int64_t last, int64_t part, int64_t parts, float* weight, float* bias) const {
    const int64_t per_row = p.out_width * p.block;
    const int64_t width = greater(1, lesser(p.out_width, kRowsAtOnce / p.block));
    const int64_t together = greater(1, lesser(Batch::kMost, kRowsAtOnce / per_row));
    for (int64_t row = first; row < last; row += together) {
      const int64_t end = lesser(last, row + together);
      for (int64_t ox = 0; ox < p.out_width; ox += width)
        pass(row, end, ox, lesser(p.out_width, ox + width), part, parts, weight);
      if (part == 0 && bias) sum_rows(row, end, bias);
    }
  }

 private:
  void pass(int64_t row, int64_t end, int64_t ox, int64_t ox_end, int64_t part, int64_t parts,
            float* weight) const {
    const int64_t panels = pieces(p.group_filters(), kPanel);
    const int64_t units = p.groups * panels * p.taps();
    for (int64_t unit = units * part / parts; unit < units * (part + 1) / parts; ++unit) {
      const int64_t tap = unit % p.taps(), panel = unit / p.taps() % panels, group = unit / p.taps() / panels;
      tap_pass(row, end, ox, ox_end, tap, panel, group, weight);
    }
  }

  void tap_pass(int64_t row, int64_t end, int64_t ox, int64_t ox_end, int64_t tap, int64_t panel,
                int64_t group, float* weight) const {
    const int64_t r = tap / p.columns, s = tap % p.columns;
    // The output columns whose tap lies inside the map.
    const int64_t shift = s * p.dilation_x - p.left;
    ox = greater(ox, shift >= 0 ? 0 : pieces(-shift, p.stride_x));
    ox_end = lesser(ox_end, p.width > shift ? pieces(p.width - shift, p.stride_x) : 0);
    if (ox >= ox_end) return;
    const bool even = p.block == 1 || p.stride_x == 1;
    const Maps from = p.x(), to = p.y();
    const int64_t column = group * p.group_filters() + panel * kPanel;
    Brgemm g{};
    g.rows = p.group_depth();
    g.columns = lesser(kPanel, p.group_filters() - panel * kPanel);
    g.inner = even ? (ox_end - ox) * p.block : p.block;
    g.row_step = 1;
    g.inner_step = p.depth * (p.block == 1 ? p.stride_x : 1);
    g.b_step = p.filters;
    g.c = weight + tap * p.group_depth() * p.filters + column;
    g.c_step = p.filters;
    g.accumulate = true;
    Batch batch;
    batch.begin(g);
    for (int64_t i = row; i < end; ++i) {
      const int64_t b = i / p.out_height, oy = i % p.out_height;
      const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top;
      if (iy < 0 || iy >= p.height) continue;
      for (int64_t at = ox; at < ox_end; at += even ? ox_end - ox : 1)
        batch.add(x + from.at(b, iy, at * p.stride_x + shift) + group * p.group_depth(),
                  dy + to.at(b, oy, at) + column);
    }
    batch.end();
  }

  void sum_rows(int64_t row, int64_t end, float* bias) const {
    const Maps to = p.y();
    for (int64_t i = row; i < end; ++i) {
      const float* from = dy + i * to.row();
      for (int64_t pixel = 0; pixel < p.out_width * p.block; ++pixel, from += p.filters)
        for (int64_t k = 0; k < p.filters; ++k) bias[k] += from[k];
    }
  }
};

// Calls work(chunk, part, weight, bias), which adds to a chunk's sums, and adds up the chunks.
template <class Work>
static void sum_weight_grads(const Call& call, const ConvCall& p, int64_t chunks, int64_t parts,
                             Threads& threads, const Work& work) {
  float* partial_bias = call.at<float>(2);
  float* weight = call.at<float>(3);
  float* bias = p.has_bias ? call.at<float>(4) : nullptr;
  const int64_t weights = p.weights();
  float* partial = chunks > 1 ? partial_bias + chunks * p.filters : weight;
  threads.each(chunks, [&](int64_t chunk) {
    for (int64_t i = 0; i < weights; ++i) partial[chunk * weights + i] = 0.0f;
    for (int64_t k = 0; k < p.filters; ++k) partial_bias[chunk * p.filters + k] = 0.0f;
  });
  threads.each(chunks * parts, [&](int64_t task) {
    const int64_t chunk = task / parts;
    work(chunk, task % parts, partial + chunk * weights, bias ? partial_bias + chunk * p.filters : nullptr);
  });
  constexpr int64_t kPiece = 4096;
  threads.each(chunks > 1 ? pieces(weights, kPiece) : 0, [&](int64_t piece) {
    const int64_t end = lesser(weights, (piece + 1) * kPiece);
    for (int64_t i = piece * kPiece; i < end; ++i) weight[i] = partial[i];
    for (int64_t chunk = 1; chunk < chunks; ++chunk)
      for (int64_t i = piece * kPiece; i < end; ++i) weight[i] += partial[chunk * weights + i];
  });
  if (!bias) return;
  for (int64_t k = 0; k < p.filters; ++k) {
    bias[k] = partial_bias[k];
    for (int64_t chunk = 1; chunk < chunks; ++chunk) bias[k] += partial_bias[chunk * p.filters + k];
  }
}

static void conv_weight_grad(const Call& call, Threads& threads) {
  const auto& given = call.as<WeightGradCall>();
  const ConvCall& p = given.conv;
  const WeightGrad grad{p, call.at<float>(0), call.at<float>(1)};
  const int64_t rows = p.y().blocks() * p.out_height;
  sum_weight_grads(call, p, given.chunks, given.parts, threads,
                   [&](int64_t chunk, int64_t part, float* weight, float* bias) {
                     grad.run(rows * chunk / given.chunks, rows * (chunk + 1) / given.chunks, part,
                              given.parts, weight, bias);
                   });
}
