// Convolutions that make few channels, and gradients by few. With filters in a vector's lanes most would be
// idle; here neighbouring pixels of all images of a block are, and rows of the product are the channels.
// The rows of maps that a row of outputs reads are turned for it, [channel][column][image].

constexpr int64_t kNarrowTasks = 8;  // so that neighbouring rows are mostly one task's

struct NarrowCall {
  ConvCall conv;
  int64_t backward;  // dx from dy and the filters, with a gate; else y from x, with bias and ReLU

  bool sensible() const {
    const int64_t made = backward ? conv.depth : conv.filters;
    return moderate(*this) && conv.sensible() && conv.groups == 1 && conv.stride_x == 1 && made <= kMostTurns;
  }
};

template <class T>
struct Narrow {
  const ConvCall& p;
  bool backward;
  Sweep<T> sweep;
  int64_t first, columns;  // of the source's columns: those that a row of the target reads

  explicit Narrow(const NarrowCall& given)
      : p(given.conv),
        backward(given.backward != 0),
        sweep(backward ? backward_sweep<T>(p) : forward_sweep<T>(p)) {
    const Axis& along = sweep.along;
    const int64_t reach = (along.taps - 1) * along.tap_step;
    first = along.shift + lesser(0, reach);
    columns = sweep.target.width + (reach < 0 ? -reach : reach);
  }

  int64_t row() const { return columns * p.block; }
  int64_t turned() const { return sweep.source.depth * row(); }
  int64_t made() const { return sweep.target.width * p.block; }
  // Rows of the source stay turned while neighbouring rows of the target read them, each in the slot
  // sy % slots(), which remembers whose it is.
  int64_t slots() const {
    const int64_t reach = (sweep.down.taps - 1) * sweep.down.tap_step;
    return lesser(sweep.source.height, (reach < 0 ? -reach : reach) + 1);
  }
  int64_t scratch() const {
    const int64_t numbers = product(slots(), turned()) + product(sweep.target.depth, made());
    return Batch<>::bytes(p.taps()) + product(slots(), sizeof(int64_t)) + product(numbers, 4) + kLine;
  }

  // One row of the source as [channel][column][image], zeros outside.
  void turn(const T* from, float* to) const {
    const int64_t depth = sweep.source.depth;
    const int64_t begin = greater(0, -first) * p.block;
    const int64_t end = lesser(columns, sweep.source.width - first) * p.block;
    for (int64_t c = 0; c < depth; ++c) {
      for (int64_t at = 0; at < begin; ++at) to[c * row() + at] = 0.0f;
      for (int64_t at = end; at < row(); ++at) to[c * row() + at] = 0.0f;
    }
    from += first * p.block * depth;
    for (int64_t at = begin; at < end; at += Vector::kWidth)
      for (int64_t c = 0; c < depth; c += Vector::kWidth) {
        Vector v[Vector::kWidth];
        const int count = static_cast<int>(lesser(Vector::kWidth, end - at));
        const int channels = static_cast<int>(lesser(Vector::kWidth, depth - c));
        if (depth == 1) {
          v[0] = load(from + at, count);
        } else {
          for (int i = 0; i < Vector::kWidth; ++i)
            v[i] = i < count ? load(from + (at + i) * depth + c, channels) : Vector::zero();
          Vector::transpose(v);
        }
        for (int i = 0; i < channels; ++i) store(v[i], to + (c + i) * row() + at, count);
      }
  }

  // Sums [channel][column][image] to the target's own order, finished.
  template <int kDepth>
  void finish(const float* sums, const float* bias, const T* gate, T* to) const {
    by_vectors(made(), [&](int64_t at, int places) {
      Vector v[kDepth];
#pragma GCC unroll 8
      for (int k = 0; k < kDepth; ++k) {
        v[k] = load(sums + k * made() + at, places);
        if (bias) v[k] = v[k] + Vector::all(bias[k]);
        if (p.relu) v[k] = Vector::positive(v[k]);
      }
      interleave(v);
      const int64_t first = at * kDepth, numbers = places * kDepth;
      if (gate)
        by_vectors(numbers, [&](int64_t number, int width) {
          Vector& x = v[number / Vector::kWidth];
          x = Vector::where_positive(load(gate + first + number, width), x);
        });
      store_all(v, to + first, numbers);
    });
  }
};

template <class T>
static int64_t scratch(const NarrowCall& given) {
  return Narrow<T>(given).scratch();
}

template <class T>
static bool narrow_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const NarrowCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible()) return false;
  const int64_t x = product(p.x().size(), kBytes<T>), y = product(p.y().size(), kBytes<T>);
  bytes[0] = given.backward ? y : x;
  bytes[1] = product(p.weights(), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = p.has_gate ? (given.backward ? x : y) : 0;
  bytes[4] = given.backward ? x : y;
  return true;
}

template <class T>
static void narrow(const Call& call, Threads& threads) {
  const auto& given = call.as<NarrowCall>();
  const ConvCall& p = given.conv;
  const Narrow<T> work(given);
  const Sweep<T>& sweep = work.sweep;
  const Maps source = sweep.source, target = sweep.target;
  const int64_t rows = target.blocks() * target.height;
  const int64_t tasks = lesser(rows, greater(kNarrowTasks, 2 * target.blocks()));
  threads.each_worker(tasks, [&](int64_t task, int worker) {
    Batch<> batch(threads.scratch(worker), p.taps());
    auto* held = reinterpret_cast<int64_t*>(batch.b + p.taps());
    float* turned = reinterpret_cast<float*>(held + work.slots());
    float* sums = turned + work.slots() * work.turned();
    for (int64_t slot = 0; slot < work.slots(); ++slot) held[slot] = -1;
    for (int64_t row = rows * task / tasks; row < rows * (task + 1) / tasks; ++row) {
      const int64_t b = row / target.height, y = row % target.height;
      for (int64_t r = 0; r < sweep.down.taps; ++r) {
        int64_t sy;
        if (!sweep.down.reads(y, r, &sy) || sy < 0 || sy >= sweep.down.sources) continue;
        const int64_t slot = sy % work.slots(), number = b * source.height + sy;
        float* there = turned + slot * work.turned();
        if (held[slot] != number) work.turn(call.at<T>(0) + source.at(b, sy, 0), there);
        held[slot] = number;
        for (int64_t s = 0; s < sweep.along.taps; ++s) {
          const int64_t column = sweep.along.shift + s * sweep.along.tap_step - work.first;
          batch.add(call.at<float>(1) + (r * p.columns + s) * p.depth * p.filters, there + column * p.block);
        }
      }
      Brgemm<float> g{};
      g.rows = target.depth;
      g.columns = work.made();
      g.inner = source.depth;
      g.row_step = work.backward ? p.filters : 1;
      g.inner_step = work.backward ? 1 : p.filters;
      g.b_step = work.row();
      g.panel_step = kPanel;
      g.c = sums;
      g.c_step = work.made();
      batch.run(g);
      const int64_t at = target.at(b, y, 0);
      const float* bias = p.has_bias ? call.at<float>(2) : nullptr;
      const T* gate = p.has_gate ? call.at<T>(3) + at : nullptr;
      with_number(target.depth, [&](auto depth) {
        work.template finish<depth.value>(sums, bias, gate, call.at<T>(4) + at);
      });
    }
  });
}
