// Batch normalisation. Sums are taken about a pivot, the first row, so that a large mean costs no digits;
// short runs in float, the rest in double, cut by size alone.

struct BatchNormCall {
  int64_t rows, depth;
  double epsilon, momentum;
  int64_t update, relu;
  int64_t
      has_other;  // maps that are added to y, in front of the ReLU; not where y is made by batch_norm_apply
};

template <class T>
static bool batch_norm_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || !(p.epsilon >= 0.0)) return false;
  bytes[0] = bytes[6] = product(p.rows, p.depth, kBytes<T>);
  bytes[1] = bytes[2] = bytes[7] = bytes[8] = product(p.depth, 4);
  bytes[3] = p.has_other ? bytes[0] : 0;
  bytes[4] = bytes[5] = p.update ? product(p.depth, 4) : 0;
  bytes[9] = product(partial_sums(p.rows, p.depth) * 2 + 2, p.depth, 8);
  return true;
}

constexpr int64_t kShortRun = 32;  // rows whose sum is kept in float

// Adds to one and two what terms makes of `rows` rows of kVectors vectors of channels from `from` on, in
// kRuns runs at a time: total[0..depth) and total[depth..2·depth).
template <int kVectors, int kRuns, class Terms>
static void add_runs(const Terms& terms, int64_t first, int64_t rows, int64_t depth, int64_t from, int width,
                     double* total) {
  typename Terms::Channels channels[kVectors];
  Vector one[kRuns][kVectors], two[kRuns][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    channels[v] = terms.channels(from + v * Vector::kWidth, width);
    for (int r = 0; r < kRuns; ++r) one[r][v] = two[r][v] = Vector::zero();
  }
  for (int64_t row = first; row < first + rows; ++row)
    for (int r = 0; r < kRuns; ++r)
      for (int v = 0; v < kVectors; ++v)
        terms.add((row + r * kShortRun) * depth + from + v * Vector::kWidth, width, channels[v], one[r][v],
                  two[r][v]);
  for (int r = 0; r < kRuns; ++r)
    for (int v = 0; v < kVectors; ++v) {
      float lanes[2][Vector::kWidth];
      one[r][v].store(lanes[0]);
      two[r][v].store(lanes[1]);
      double* sum = total + from + v * Vector::kWidth;
      for (int c = 0; c < width; ++c) {
        sum[c] += static_cast<double>(lanes[0][c]);
        sum[depth + c] += static_cast<double>(lanes[1][c]);
      }
    }
}

// Adds up two functions of (row, channel) over `rows` rows: sums[0..depth) and sums[depth..2·depth).
template <class Terms>
static void two_sums(Threads& threads, int64_t rows, int64_t depth, double* partial, double* sums,
                     const Terms& terms) {
  constexpr int kWide = kGroup * Vector::kWidth;
  const int64_t parts = partial_sums(rows, depth);
  threads.each(parts, [&](int64_t part) {
    const Terms own = terms;  // that no store can change, for all that the compiler knows
    double* total = partial + part * 2 * depth;
    for (int64_t c = 0; c < 2 * depth; ++c) total[c] = 0.0;
    const int64_t end = rows * (part + 1) / parts;
    for (int64_t first = rows * part / parts; first < end; first += kGroup * kShortRun) {
      const int64_t last = lesser(end, first + kGroup * kShortRun);
      int64_t from = 0;
      for (; from + kWide <= depth; from += kWide)
        for (int64_t row = first; row < last; row += kShortRun)
          add_runs<kGroup, 1>(own, row, lesser(kShortRun, last - row), depth, from, Vector::kWidth, total);
      for (; from < depth; from += Vector::kWidth) {
        const int width = static_cast<int>(lesser(Vector::kWidth, depth - from));
        if (last - first == kGroup * kShortRun)
          add_runs<1, kGroup>(own, first, kShortRun, depth, from, width, total);
        else
          for (int64_t row = first; row < last; row += kShortRun)
            add_runs<1, 1>(own, row, lesser(kShortRun, last - row), depth, from, width, total);
      }
    }
  });
  for (int64_t c = 0; c < 2 * depth; ++c) sums[c] = 0.0;
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t c = 0; c < 2 * depth; ++c) sums[c] += partial[part * 2 * depth + c];
}

// Σ (x − pivot) and Σ (x − pivot)²
template <class T>
struct Moments {
  const T* x;

  struct Channels {
    Vector pivot;
  };
  Channels channels(int64_t c, int width) const { return {load(x + c, width)}; }
  void add(int64_t i, int width, const Channels& of, Vector& one, Vector& two) const {
    const Vector d = load(x + i, width) - of.pivot;
    one = one + d;
    two = two + d * d;
  }
};

// y = (x − centre)·scale + shift, what is added to it, and the ReLU behind
template <class T, bool kRelu, bool kOther>
struct Normalise {
  const T* x;
  const T* other;
  T* y;
  const float *mean, *inverse, *weight, *bias;

  struct Channels {
    Vector mean, factor, bias;
  };
  Channels channels(int64_t c, int width) const {
    return {load(mean + c, width), load(inverse + c, width) * load(weight + c, width), load(bias + c, width)};
  }
  void make(int64_t i, int width, const Channels& of) const {
    Vector made = (load(x + i, width) - of.mean) * of.factor + of.bias;
    if (kOther) made = made + load(other + i, width);
    store(kRelu ? Vector::positive(made) : made, y + i, width);
  }
};

template <class T>
static void batch_norm(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormCall>();
  const T* x = call.at<T>(0);
  const float* weight = call.at<float>(1);
  const float* bias = call.at<float>(2);
  const T* other = call.at<T>(3);
  float* running_mean = call.at<float>(4);
  float* running_var = call.at<float>(5);
  T* y = call.at<T>(6);
  float* mean = call.at<float>(7);
  float* inverse = call.at<float>(8);
  double* sums = call.at<double>(9);
  two_sums(threads, p.rows, p.depth, sums + 2 * p.depth, sums, Moments<T>{x});
  const double count = static_cast<double>(p.rows);
  for (int64_t c = 0; c < p.depth; ++c) {
    const double shift = sums[c] / count;
    const double spread = sums[p.depth + c] / count - shift * shift;
    const double variance = spread < 0.0 ? 0.0 : spread;
    const double centre = static_cast<double>(widened(x[c])) + shift;
    mean[c] = static_cast<float>(centre);
    inverse[c] = static_cast<float>(1.0 / sqrt(variance + p.epsilon));
    if (!p.update) continue;
    const double unbiased = p.rows > 1 ? variance * count / (count - 1.0) : variance;
    running_mean[c] = static_cast<float>((1.0 - p.momentum) * running_mean[c] + p.momentum * centre);
    running_var[c] = static_cast<float>((1.0 - p.momentum) * running_var[c] + p.momentum * unbiased);
  }
  const auto normalise = [&](const auto& map) { map_rows(threads, p.rows, p.depth, map); };
  if (p.has_other)
    p.relu ? normalise(Normalise<T, true, true>{x, other, y, mean, inverse, weight, bias})
           : normalise(Normalise<T, false, true>{x, other, y, mean, inverse, weight, bias});
  else
    p.relu ? normalise(Normalise<T, true, false>{x, other, y, mean, inverse, weight, bias})
           : normalise(Normalise<T, false, false>{x, other, y, mean, inverse, weight, bias});
}

template <class T>
static bool batch_norm_apply_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || !(p.epsilon >= 0.0) || p.has_other) return false;
  bytes[0] = bytes[5] = product(p.rows, p.depth, kBytes<T>);
  bytes[1] = bytes[2] = bytes[3] = bytes[4] = product(p.depth, 4);
  bytes[6] = product(2, p.depth, 4);
  return true;
}

// y = x·scale + shift, and the ReLU behind it
template <class T, bool kRelu>
struct Scale {
  const T* x;
  T* y;
  const float *scale, *shift;

  struct Channels {
    Vector scale, shift;
  };
  Channels channels(int64_t c, int width) const { return {load(scale + c, width), load(shift + c, width)}; }
  void make(int64_t i, int width, const Channels& of) const {
    const Vector normal = load(x + i, width) * of.scale + of.shift;
    store(kRelu ? Vector::positive(normal) : normal, y + i, width);
  }
};

template <class T>
static void batch_norm_apply(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormCall>();
  const T* x = call.at<T>(0);
  const float* weight = call.at<float>(1);
  const float* bias = call.at<float>(2);
  const float* mean = call.at<float>(3);
  const float* variance = call.at<float>(4);
  T* y = call.at<T>(5);
  float* scale = call.at<float>(6);
  float* shift = scale + p.depth;
  for (int64_t c = 0; c < p.depth; ++c) {
    const double factor = static_cast<double>(weight[c]) / sqrt(static_cast<double>(variance[c]) + p.epsilon);
    scale[c] = static_cast<float>(factor);
    shift[c] = static_cast<float>(static_cast<double>(bias[c]) - static_cast<double>(mean[c]) * factor);
  }
  if (p.relu)
    map_rows(threads, p.rows, p.depth, Scale<T, true>{x, y, scale, shift});
  else
    map_rows(threads, p.rows, p.depth, Scale<T, false>{x, y, scale, shift});
}

struct BatchNormGradCall {
  int64_t rows, depth, has_gate;
};

template <class T>
static bool batch_norm_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormGradCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[1] = bytes[6] = product(p.rows, p.depth, kBytes<T>);
  bytes[2] = bytes[3] = bytes[4] = bytes[7] = bytes[8] = product(p.depth, 4);
  bytes[5] = p.has_gate ? bytes[0] : 0;
  bytes[9] = product(partial_sums(p.rows, p.depth) * 2 + 2, p.depth, 8);
  return true;
}

// dy, closed where the output of the ReLU behind the normalisation is not positive.
template <class T, bool kGate>
struct Gated {
  const T *dy, *gate;

  Vector at(int64_t i, int width) const {
    const Vector open = load(dy + i, width);
    return kGate ? Vector::where_positive(load(gate + i, width), open) : open;
  }
};

// Σ dy and Σ dy·x̂
template <class T, bool kGate>
struct GradientSums {
  const T* x;
  Gated<T, kGate> dy;
  const float *mean, *inverse;

  struct Channels {
    Vector mean, inverse;
  };
  Channels channels(int64_t c, int width) const { return {load(mean + c, width), load(inverse + c, width)}; }
  void add(int64_t i, int width, const Channels& of, Vector& one, Vector& two) const {
    const Vector d = dy.at(i, width);
    one = one + d;
    two = two + d * ((load(x + i, width) - of.mean) * of.inverse);
  }
};

template <class T, bool kGate>
struct InputGradient {
  const T* x;
  Gated<T, kGate> dy;
  T* dx;
  const float *weight, *mean, *inverse, *dweight, *dbias;
  float share;

  struct Channels {
    Vector mean, inverse, factor, even, slope;
  };
  Channels channels(int64_t c, int width) const {
    return {load(mean + c, width), load(inverse + c, width),
            load(weight + c, width) * load(inverse + c, width), Vector::all(share) * load(dbias + c, width),
            Vector::all(share) * load(dweight + c, width)};
  }
  void make(int64_t i, int width, const Channels& of) const {
    const Vector normal = (load(x + i, width) - of.mean) * of.inverse;
    store(of.factor * (dy.at(i, width) - of.even - normal * of.slope), dx + i, width);
  }
};

template <class T, bool kGate>
static void batch_norm_grad_of(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormGradCall>();
  const T* x = call.at<T>(0);
  const Gated<T, kGate> dy{call.at<T>(1), kGate ? call.at<T>(5) : nullptr};
  const float* weight = call.at<float>(2);
  const float* mean = call.at<float>(3);
  const float* inverse = call.at<float>(4);
  float* dweight = call.at<float>(7);
  float* dbias = call.at<float>(8);
  double* sums = call.at<double>(9);
  two_sums(threads, p.rows, p.depth, sums + 2 * p.depth, sums, GradientSums<T, kGate>{x, dy, mean, inverse});
  for (int64_t c = 0; c < p.depth; ++c) {
    dbias[c] = static_cast<float>(sums[c]);
    dweight[c] = static_cast<float>(sums[p.depth + c]);
  }
  const float share = 1.0f / static_cast<float>(p.rows);
  map_rows(threads, p.rows, p.depth,
           InputGradient<T, kGate>{x, dy, call.at<T>(6), weight, mean, inverse, dweight, dbias, share});
}

// With x̂ = (x − mean)·inverse: dbias = Σ dy, dweight = Σ dy·x̂,
// dx = weight·inverse·(dy − dbias/n − x̂·dweight/n).
template <class T>
static void batch_norm_grad(const Call& call, Threads& threads) {
  if (call.as<BatchNormGradCall>().has_gate)
    batch_norm_grad_of<T, true>(call, threads);
  else
    batch_norm_grad_of<T, false>(call, threads);
}

struct FoldCall {
  int64_t rows, depth;
  double epsilon;
  int64_t has_bias;
};

static bool fold_norm_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const FoldCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || !(p.epsilon >= 0.0)) return false;
  bytes[0] = bytes[6] = product(p.rows, p.depth, 4);
  bytes[1] = p.has_bias ? product(p.depth, 4) : 0;
  bytes[2] = bytes[3] = bytes[4] = bytes[5] = bytes[7] = product(p.depth, 4);
  return true;
}

// The weights and the bias of a convolution that does what it and the normalisation behind it do:
// (x ∗ w + b − mean)·scale/√(variance + ε) + offset.
static void fold_norm(const Call& call, Threads& threads) {
  const auto& p = call.as<FoldCall>();
  const float* weight = call.at<float>(0);
  const float* bias = p.has_bias ? call.at<float>(1) : nullptr;
  const float *scale = call.at<float>(2), *offset = call.at<float>(3);
  const float *mean = call.at<float>(4), *variance = call.at<float>(5);
  float *folded = call.at<float>(6), *shift = call.at<float>(7);
  const auto factor = [&](int64_t k) {
    return static_cast<double>(scale[k]) / sqrt(static_cast<double>(variance[k]) + p.epsilon);
  };
  by_rows(threads, p.rows, p.depth, [&](int64_t first, int64_t last) {
    for (int64_t k = 0; k < p.depth; ++k) {
      const double by = factor(k);
      for (int64_t row = first; row < last; ++row)
        folded[row * p.depth + k] = static_cast<float>(static_cast<double>(weight[row * p.depth + k]) * by);
    }
  });
  for (int64_t k = 0; k < p.depth; ++k) {
    const double before = bias ? static_cast<double>(bias[k]) : 0.0;
    shift[k] = static_cast<float>((before - static_cast<double>(mean[k])) * factor(k) +
                                  static_cast<double>(offset[k]));
  }
}
