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

// A gradient by the weights, cut into `chunks` of rows of outputs, each with sums of its own, and these into
// `parts`: work.run adds one part of one chunk to its sums, which begin at zero.
template <class Cut, class Work>
static void sum_chunks(const Cut& cut, const Work& work, float* weights, float* bias, Threads& threads) {
  const ConvCall& p = cut.conv;
  const int64_t rows = p.y().blocks() * p.out_height, size = p.weights();
  threads.each(cut.chunks, [&](int64_t chunk) {
    for (int64_t i = 0; i < size; ++i) weights[chunk * size + i] = 0.0f;
    for (int64_t k = 0; k < p.filters; ++k) bias[chunk * p.filters + k] = 0.0f;
  });
  threads.each_worker(cut.chunks * cut.parts, [&](int64_t task, int worker) {
    const int64_t chunk = task / cut.parts, part = task % cut.parts;
    work.run(rows * chunk / cut.chunks, rows * (chunk + 1) / cut.chunks, part, cut.parts,
             weights + chunk * size, p.has_bias ? bias + chunk * p.filters : nullptr,
             threads.scratch(worker));
  });
}

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
template <class P = float>
struct Batch {
  const P** a;
  const P** b;
  int64_t count;

  Batch(void* room, int64_t most)
      : a(static_cast<const P**>(room)), b(static_cast<const P**>(room) + most), count(0) {}
  static int64_t bytes(int64_t most) { return product(2, most, sizeof(P*)); }

  void add(const P* left, const P* right) {
    a[count] = left;
    b[count] = right;
    ++count;
  }
  template <class T>
  void run(Brgemm<T, P> g) {
    g.a = a;
    g.b = b;
    g.count = count;
    brgemm(g);
    count = 0;
  }
};

// One row of output maps from rows of source maps: y[o] = Σ_taps source[…]·W_tap, for one group. Maps hold
// numbers of type T, and numbers of type P are multiplied.
template <class T, class P = float>
struct Sweep {
  Axis down, along;
  Maps source, target;
  int64_t inner, columns;        // depth of a group on the source's and the target's side
  int64_t source_at, target_at;  // the group's first channel on either side
  const T* from;
  const P* weights;                                  // of the group
  int64_t tap_step, b_step, panel_step, group_step;  // how they lie
  T* to;
  const float* bias;
  const T* gate;
  bool relu;
  int64_t before, after;  // pixels of zeros that copies of rows have at their ends
  const P** rows;         // in scratch memory: the source's row that each tap down reads, or null
  void* room;

  // Single images are read from copies with zeros at the edges, or every edge would be a product of one row.
  void pad() {
    const int64_t reach = (along.taps - 1) * along.tap_step;
    const int64_t first = along.shift + lesser(0, reach);
    const int64_t last = along.shift + (target.width - 1) * along.scale + greater(0, reach);
    if (source.block > 1 || along.divisor > 1) return;
    before = greater(0, -first);
    after = greater(0, last + 1 - along.sources);
    along.shift += before;
    along.sources += before + after;
  }
  bool copied() const { return kCopied<T, P> || before + after > 0; }
  int64_t copy() const { return source.row() + (before + after) * source.pixel(); }

  // What a thread needs besides: pointers to rows, the operands of a product, copies of rows as floats.
  int64_t scratch() const {
    const int64_t copies = copied() ? product(down.taps, copy(), kBytes<P>) : 0;
    return product(down.taps, sizeof(P*)) + Batch<P>::bytes(product(down.taps, along.taps)) + copies + kLine;
  }
  void use(void* scratch) {
    rows = static_cast<const P**>(scratch);
    room = rows + down.taps;
  }

  // The source's rows that row y of block b reads.
  void read(int64_t b, int64_t y) const {
    P* copies = reinterpret_cast<P*>(static_cast<char*>(room) + Batch<P>::bytes(down.taps * along.taps));
    for (int64_t r = 0; r < down.taps; ++r) {
      int64_t sy;
      const bool inside = down.reads(y, r, &sy) && sy >= 0 && sy < down.sources;
      rows[r] = inside ? read_row(from + source.at(b, sy, 0), copies + r * copy()) : nullptr;
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
  const P* read_row(const T* row, P* to) const {
    const int64_t size = source.row(), begin = before * source.pixel();
    if (before + after == 0) return read_as(row, size, to);
    for (int64_t i = 0; i < begin; ++i) to[i] = P{};
    for (int64_t i = begin + size; i < copy(); ++i) to[i] = P{};
    for (int64_t i = 0; i < size; i += Vector::kWidth) {
      const int width = static_cast<int>(lesser(Vector::kWidth, size - i));
      store(load(row + i, width), to + begin + i, width);
    }
    return to;
  }

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
      Brgemm<T, P> g{};
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
      Batch<P> batch(room, down.taps * along.taps);
      collect(segment.phase, j, batch);
      batch.run(g);
    }
  }

  void collect(int64_t phase, int64_t j, Batch<P>& batch) const {
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

// Numbers of a column that lie side by side.
template <class P>
constexpr int64_t kTogether = sizeof(float) / sizeof(P);

template <class T, class P = float>
static void lay_panels(Sweep<T, P>& sweep) {
  sweep.tap_step = sweep.inner * kPanel;
  sweep.b_step = kPanel * kTogether<P>;
  sweep.panel_step = sweep.down.taps * sweep.along.taps * sweep.tap_step;
  sweep.group_step = pieces(sweep.columns, kPanel) * sweep.panel_step;
}

template <class T, class P = float>
static void sweep_rows(const Sweep<T, P>& sweep, const SweepCall& cut, Threads& threads) {
  const int64_t rows = sweep.target.blocks() * sweep.target.height, panels = pieces(sweep.columns, kPanel);
  threads.each_worker(cut.chunks * cut.parts, [&](int64_t task, int worker) {
    const int64_t chunk = task / cut.parts, part = task % cut.parts;
    const int64_t first = panels * part / cut.parts, last = panels * (part + 1) / cut.parts;
    Sweep<T, P> mine = sweep;
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

template <class T, class P = float>
static Sweep<T, P> forward_sweep(const ConvCall& p) {
  Sweep<T, P> sweep{};
  sweep.down = forward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.height);
  sweep.along = forward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.width);
  sweep.source = p.x();
  sweep.target = p.y();
  sweep.inner = p.group_depth();
  sweep.columns = p.group_filters();
  return sweep;
}

template <class T, class P = float>
static Sweep<T, P> backward_sweep(const ConvCall& p) {
  Sweep<T, P> sweep{};
  sweep.down = backward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.out_height);
  sweep.along = backward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.out_width);
  sweep.source = p.y();
  sweep.target = p.x();
  sweep.inner = p.group_filters();
  sweep.columns = p.group_depth();
  return sweep;
}

// Enough for either direction.
template <class T, class P = float>
static int64_t scratch(const SweepCall& given) {
  Sweep<T, P> forward = forward_sweep<T, P>(given.conv), backward = backward_sweep<T, P>(given.conv);
  forward.pad();
  backward.pad();
  return greater(forward.scratch(), backward.scratch());
}
