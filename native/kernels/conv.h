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

// The work is cut into `chunks` runs of rows of the target's maps, and each into `parts` runs of panels of
// weights, so that a part's weights stay near a core while its rows pass by.
struct SweepCall {
  ConvCall conv;
  int64_t chunks, parts;

  bool sensible() const {
    return moderate(*this) && conv.sensible() && chunks > 0 && parts > 0 && (parts == 1 || conv.groups == 1);
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

// The operands of one run of the batch-reduce GEMM, collected tap by tap in a thread's scratch memory.
struct Batch {
  const float** a;
  const float** b;
  int64_t count;

  Batch(void* room, int64_t most)
      : a(static_cast<const float**>(room)), b(static_cast<const float**>(room) + most), count(0) {}
  static int64_t bytes(int64_t most) { return product(2, most, sizeof(float*)); }

  void add(const float* left, const float* right) {
    a[count] = left;
    b[count] = right;
    ++count;
  }
  template <class T>
  void run(Brgemm<T> g) {
    g.a = a;
    g.b = b;
    g.count = count;
    brgemm(g);
    count = 0;
  }
};

// A row of maps as floats: where it lies, or a copy of it in `room`.
static const float* as_floats(const float* row, int64_t, float*) { return row; }

static const float* as_floats(const Bfloat16* row, int64_t size, float* room) {
  int64_t i = 0;
  for (; i + Vector::kWidth <= size; i += Vector::kWidth) Vector::load(row + i).store(room + i);
  for (; i < size; ++i) room[i] = widened(row[i]);
  return room;
}

template <class T>
constexpr bool kCopied = sizeof(T) != sizeof(float);

// One row of output maps from rows of source maps: y[o] = Σ_taps source[…]·W_tap, for one group.
template <class T>
struct Sweep {
  Axis down, along;
  Maps source, target;
  int64_t inner, columns;        // depth of a group on the source's and the target's side
  int64_t source_at, target_at;  // the group's first channel on either side
  const T* from;
  const float* weights;                              // of the group
  int64_t tap_step, b_step, panel_step, group_step;  // how they lie
  T* to;
  const float* bias;
  const T* gate;
  bool relu;
  const float** rows;  // in scratch memory: the source's row that each tap down reads, or null
  void* room;

  // What a thread needs besides: pointers to rows, the operands of a product, copies of rows as floats.
  int64_t scratch() const {
    const int64_t copies = kCopied<T> ? product(down.taps, source.row(), 4) : 0;
    return product(down.taps, sizeof(float*)) + Batch::bytes(product(down.taps, along.taps)) + copies + kLine;
  }
  void use(void* scratch) {
    rows = static_cast<const float**>(scratch);
    room = rows + down.taps;
  }

  // The source's rows that row y of block b reads.
  void read(int64_t b, int64_t y) const {
    float* copies = reinterpret_cast<float*>(static_cast<char*>(room) + Batch::bytes(down.taps * along.taps));
    for (int64_t r = 0; r < down.taps; ++r) {
      int64_t sy;
      const bool inside = down.reads(y, r, &sy) && sy >= 0 && sy < down.sources;
      rows[r] =
          inside ? as_floats(from + source.at(b, sy, 0), source.row(), copies + r * source.row()) : nullptr;
    }
  }

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
      Brgemm<T> g{};
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
      Batch batch(room, down.taps * along.taps);
      collect(segment.phase, j, batch);
      batch.run(g);
    }
  }

  void collect(int64_t phase, int64_t j, Batch& batch) const {
    for (int64_t r = 0; r < down.taps; ++r) {
      if (rows[r] == nullptr) continue;
      for (int64_t s = 0; s < along.taps; ++s) {
        int64_t sx;
        if (!along.reads(phase, s, &sx)) continue;
        sx += j * along.scale;
        if (sx < 0 || sx >= along.sources) continue;
        batch.add(rows[r] + sx * source.pixel() + source_at, weights + (r * along.taps + s) * tap_step);
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
template <class T>
static bool conv_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const SweepCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible()) return false;
  bytes[0] = product(p.x().size(), sizeof(T));
  const int64_t panels = packed_size(p.taps(), p.group_depth(), p.group_filters(), p.groups);
  bytes[1] = product(p.packed ? panels : p.weights(), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = product(p.y().size(), sizeof(T));
  return true;
}

template <class T>
static void lay_panels(Sweep<T>& sweep) {
  sweep.tap_step = sweep.inner * kPanel;
  sweep.b_step = kPanel;
  sweep.panel_step = sweep.down.taps * sweep.along.taps * sweep.tap_step;
  sweep.group_step = pieces(sweep.columns, kPanel) * sweep.panel_step;
}

template <class T>
static void sweep_rows(const Sweep<T>& sweep, const SweepCall& cut, Threads& threads) {
  const int64_t rows = sweep.target.blocks() * sweep.target.height, panels = pieces(sweep.columns, kPanel);
  threads.each_worker(cut.chunks * cut.parts, [&](int64_t task, int worker) {
    const int64_t chunk = task / cut.parts, part = task % cut.parts;
    const int64_t first = panels * part / cut.parts, last = panels * (part + 1) / cut.parts;
    Sweep<T> mine = sweep;
    mine.use(threads.scratch(worker));
    mine.columns = lesser(sweep.columns, last * kPanel) - first * kPanel;
    for (int64_t row = rows * chunk / cut.chunks; row < rows * (chunk + 1) / cut.chunks; ++row) {
      const int64_t b = row / sweep.target.height, y = row % sweep.target.height;
      mine.read(b, y);
      for (int64_t g = 0; g < cut.conv.groups; ++g) {
        mine.source_at = g * sweep.inner;
        mine.target_at = g * sweep.columns + first * kPanel;
        mine.weights = sweep.weights + g * sweep.group_step + first * sweep.panel_step;
        mine.bias = sweep.bias ? sweep.bias + mine.target_at : nullptr;
        mine.row(b, y);
      }
    }
  });
}

template <class T>
static Sweep<T> forward_sweep(const ConvCall& p) {
  Sweep<T> sweep{};
  sweep.down = forward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.height);
  sweep.along = forward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.width);
  sweep.source = p.x();
  sweep.target = p.y();
  sweep.inner = p.group_depth();
  sweep.columns = p.group_filters();
  return sweep;
}

template <class T>
static Sweep<T> backward_sweep(const ConvCall& p) {
  Sweep<T> sweep{};
  sweep.down = backward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.out_height);
  sweep.along = backward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.out_width);
  sweep.source = p.y();
  sweep.target = p.x();
  sweep.inner = p.group_filters();
  sweep.columns = p.group_depth();
  return sweep;
}

// Enough for either direction.
template <class T>
static int64_t scratch(const SweepCall& given) {
  return greater(forward_sweep<T>(given.conv).scratch(), backward_sweep<T>(given.conv).scratch());
}

template <class T>
static void conv(const Call& call, Threads& threads) {
  const auto& cut = call.as<SweepCall>();
  const ConvCall& p = cut.conv;
  Sweep<T> sweep = forward_sweep<T>(p);
  sweep.from = call.at<T>(0);
  sweep.weights = call.at<float>(1);
  sweep.bias = p.has_bias ? call.at<float>(2) : nullptr;
  sweep.to = call.at<T>(3);
  sweep.relu = p.relu != 0;
  if (p.packed) {
    lay_panels(sweep);
  } else {
    sweep.tap_step = p.group_depth() * p.filters;
    sweep.b_step = p.filters;
    sweep.panel_step = kPanel;
    sweep.group_step = p.group_filters();
  }
  sweep_rows(sweep, cut, threads);
}

// dx = dy ∗ Wᵀ, closed where the gate (x itself, a ReLU's output) is not positive
template <class T>
static bool conv_input_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const SweepCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible() || !p.packed) return false;
  bytes[0] = product(p.y().size(), sizeof(T));
  bytes[1] = product(packed_size(p.taps(), p.group_filters(), p.group_depth(), p.groups), 4);
  bytes[2] = p.has_gate ? product(p.x().size(), sizeof(T)) : 0;
  bytes[3] = product(p.x().size(), sizeof(T));
  return true;
}

template <class T>
static void conv_input_grad(const Call& call, Threads& threads) {
  const auto& cut = call.as<SweepCall>();
  const ConvCall& p = cut.conv;
  Sweep<T> sweep = backward_sweep<T>(p);
  sweep.from = call.at<T>(0);
  sweep.weights = call.at<float>(1);
  sweep.gate = p.has_gate ? call.at<T>(2) : nullptr;
  sweep.to = call.at<T>(3);
  lay_panels(sweep);
  sweep_rows(sweep, cut, threads);
}

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
  bytes[0] = product(p.conv.x().size(), sizeof(T));
  bytes[1] = product(p.conv.y().size(), sizeof(T));
  bytes[2] = product(p.chunks, (p.chunks > 1 ? p.conv.weights() : 0) + p.conv.filters, 4);
  bytes[3] = product(p.conv.weights(), 4);
  bytes[4] = p.conv.has_bias ? product(p.conv.filters, 4) : 0;
  return true;
}

static void add_rows(const float* rows, int64_t count, int64_t depth, float* sum) {
  for (int64_t row = 0; row < count; ++row, rows += depth)
    for (int64_t k = 0; k < depth; ++k) sum[k] += rows[k];
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
    return pointers + Batch::bytes(products()) + (kCopied<T> ? copies : 0) + kLine;
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
      float* copy = reinterpret_cast<float*>(static_cast<char*>(room) + Batch::bytes(work.products()));
      for (int64_t i = row; i < end; ++i) {
        const int64_t b = i / p.out_height, oy = i % p.out_height;
        const float** found = rows + (i - row) * (p.rows + 1);
        for (int64_t r = 0; r < p.rows; ++r, copy += p.x().row()) {
          const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top;
          const bool inside = iy >= 0 && iy < p.height;
          found[r] = inside ? as_floats(work.x + p.x().at(b, iy, 0), p.x().row(), copy) : nullptr;
        }
        found[p.rows] = as_floats(work.dy + p.y().at(b, oy, 0), p.y().row(), copy);
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
      Batch batch(room, work.products());
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
  const int64_t rows = p.y().blocks() * p.out_height, weights = p.weights();
  float* partial = given.chunks > 1 ? partial_bias + given.chunks * p.filters : weight;
  threads.each(given.chunks, [&](int64_t chunk) {
    for (int64_t i = 0; i < weights; ++i) partial[chunk * weights + i] = 0.0f;
    for (int64_t k = 0; k < p.filters; ++k) partial_bias[chunk * p.filters + k] = 0.0f;
  });
  threads.each_worker(given.chunks * given.parts, [&](int64_t task, int worker) {
    const int64_t chunk = task / given.parts, part = task % given.parts;
    work.run(rows * chunk / given.chunks, rows * (chunk + 1) / given.chunks, part, given.parts,
             partial + chunk * weights, bias ? partial_bias + chunk * p.filters : nullptr,
             threads.scratch(worker));
  });
  if (given.chunks > 1) add_partial_sums(partial, given.chunks, weights, weight, threads);
  if (bias) add_partial_sums(partial_bias, given.chunks, p.filters, bias, threads);
}
