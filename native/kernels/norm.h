// Batch normalisation. Sums are taken about a pivot, the first row, so that a large mean costs no digits;
// short runs in float, the rest in double, cut by size alone.

struct BatchNormCall {
  int64_t rows, depth;
  double epsilon, momentum;
  int64_t update, relu;
  int64_t has_other;  // maps that are added to y, in front of the ReLU
  int64_t parts;      // of the rows, of which the moments are known; 0 for none
};

template <class T>
static bool batch_norm_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || p.parts < 0 || !(p.epsilon >= 0.0)) return false;
  bytes[0] = bytes[7] = product(p.rows, p.depth, kBytes<T>);
  bytes[1] = bytes[2] = bytes[8] = bytes[9] = product(p.depth, 4);
  bytes[3] = p.has_other ? bytes[0] : 0;
  bytes[4] = product(p.parts, 3, p.depth, 8);
  bytes[5] = bytes[6] = p.update ? product(p.depth, 4) : 0;
  bytes[10] = product(partial_sums(p.rows, p.depth) * 2 + 2, p.depth, 8);
  return true;
}

constexpr int64_t kShortRun = 32;  // rows whose sum is kept in float

// Adds up what terms makes of kVectors vectors of channels from `from` on, in kRuns runs of `rows` rows at a
// time: total[0..depth) and total[depth..2·depth).
template <int kVectors, int kRuns, class Terms>
static void add_runs(const Terms& terms, const WideRows& all, int64_t first, int64_t rows, int64_t from,
                     int width, double* total) {
  typename Terms::Channels channels[kVectors];
  Vector one[kRuns][kVectors], two[kRuns][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    channels[v] = terms.channels(all.channel(from + v * Vector::kWidth), width);
    for (int r = 0; r < kRuns; ++r) one[r][v] = two[r][v] = Vector::zero();
  }
  for (int64_t row = first; row < first + rows; ++row)
    for (int r = 0; r < kRuns; ++r)
      for (int v = 0; v < kVectors; ++v)
        terms.add((row + r * kShortRun) * all.width + from + v * Vector::kWidth, width, channels[v],
                  one[r][v], two[r][v]);
  for (int r = 0; r < kRuns; ++r)
    for (int v = 0; v < kVectors; ++v) {
      float lanes[2][Vector::kWidth];
      one[r][v].store(lanes[0]);
      two[r][v].store(lanes[1]);
      double* sum = total + all.channel(from + v * Vector::kWidth);
      for (int c = 0; c < width; ++c) {
        sum[c] += static_cast<double>(lanes[0][c]);
        sum[all.depth + c] += static_cast<double>(lanes[1][c]);
      }
    }
}

// Adds up two functions of (row, channel) over part of the rows: total[0..depth) and total[depth..2·depth).
template <class Terms>
static void add_part(const Terms& own, const WideRows& all, int64_t begin, int64_t end, double* total) {
  for (int64_t c = 0; c < 2 * all.depth; ++c) total[c] = 0.0;
  for (int64_t first = begin; first < end; first += kGroup * kShortRun) {
    const int64_t last = lesser(end, first + kGroup * kShortRun);
    int64_t from = 0;
    for (; from + kWide <= all.width; from += kWide)
      for (int64_t row = first; row < last; row += kShortRun)
        add_runs<kGroup, 1>(own, all, row, lesser(kShortRun, last - row), from, Vector::kWidth, total);
    for (; from < all.width; from += Vector::kWidth) {
      const int width = static_cast<int>(lesser(Vector::kWidth, all.width - from));
      if (last - first == kGroup * kShortRun)
        add_runs<1, kGroup>(own, all, first, kShortRun, from, width, total);
      else
        for (int64_t row = first; row < last; row += kShortRun)
          add_runs<1, 1>(own, all, row, lesser(kShortRun, last - row), from, width, total);
    }
  }
}

// The same over all of `rows` rows: sums[0..depth) and sums[depth..2·depth).
template <class Terms>
static void two_sums(Threads& threads, int64_t rows, int64_t depth, double* partial, double* sums,
                     const Terms& terms) {
  const WideRows all(rows, depth);
  const int64_t parts = partial_sums(rows, depth);
  threads.each(parts, [&](int64_t part) {
    const Terms own = terms;  // that no store can change, for all that the compiler knows
    add_part(own, all, all.rows * part / parts, all.rows * (part + 1) / parts, partial + part * 2 * depth);
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

// What a normalisation makes of x: (x − mean)·factor + bias, which may be left out where only x̂ is wanted.
struct Normal {
  const float *mean, *inverse, *weight, *bias;

  struct Channels {
    Vector mean, factor, bias;
    Vector of(Vector x) const { return (x - mean) * factor + bias; }
  };
  Channels channels(int64_t c, int width) const {
    return {load(mean + c, width), load(inverse + c, width) * load(weight + c, width),
            bias ? load(bias + c, width) : Vector::zero()};
  }
};

// That, what is added to it, and the ReLU behind
template <class T, bool kRelu, bool kOther>
struct Normalise {
  Normal normal;
  const T* x;
  const T* other;
  T* y;

  Normal::Channels channels(int64_t c, int width) const { return normal.channels(c, width); }
  void make(int64_t i, int width, const Normal::Channels& of) const {
    Vector made = of.of(load(x + i, width));
    if (kOther) made = made + load(other + i, width);
    store(kRelu ? Vector::positive(made) : made, y + i, width);
  }
};

// The mean and the variance of each channel: sums[0..depth) and sums[depth..2·depth).
template <class T>
static void measure(const T* x, int64_t rows, int64_t depth, double* sums, Threads& threads) {
  two_sums(threads, rows, depth, sums + 2 * depth, sums, Moments<T>{x});
  const double count = static_cast<double>(rows);
  for (int64_t c = 0; c < depth; ++c) {
    const double shift = sums[c] / count, spread = sums[depth + c] / count - shift * shift;
    sums[c] = static_cast<double>(widened(x[c])) + shift;
    sums[depth + c] = spread < 0.0 ? 0.0 : spread;
  }
}

// The same from the moments of parts of the rows, as [part][3][channel] (Chan, Golub and LeVeque, "Updating
// Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979).
static void merge_moments(const double* moments, int64_t parts, int64_t rows, int64_t depth, double* sums) {
  const double count = static_cast<double>(rows);
  for (int64_t c = 0; c < 2 * depth; ++c) sums[c] = 0.0;
  for (int64_t part = 0; part < parts; ++part) {
    const double* of = moments + part * 3 * depth;
    for (int64_t c = 0; c < depth; ++c) sums[c] += of[c] / count * of[depth + c];
  }
  for (int64_t part = 0; part < parts; ++part) {
    const double* of = moments + part * 3 * depth;
    for (int64_t c = 0; c < depth; ++c) {
      const double off = of[depth + c] - sums[c];
      sums[depth + c] += (of[2 * depth + c] + of[c] * off * off) / count;
    }
  }
}

struct Statistics {
  const double* moments;
  float *running_mean, *running_var, *mean, *inverse;
  double* sums;
};

// The mean of each channel and one by its spread, and the running statistics moved towards them.
template <class T>
static void statistics_of(const T* x, const BatchNormCall& p, const Statistics& to, Threads& threads) {
  if (p.parts > 0)
    merge_moments(to.moments, p.parts, p.rows, p.depth, to.sums);
  else
    measure(x, p.rows, p.depth, to.sums, threads);
  const double count = static_cast<double>(p.rows);
  for (int64_t c = 0; c < p.depth; ++c) {
    const double centre = to.sums[c], variance = to.sums[p.depth + c];
    to.mean[c] = static_cast<float>(centre);
    to.inverse[c] = static_cast<float>(1.0 / sqrt(variance + p.epsilon));
    if (!p.update) continue;
    const double unbiased = p.rows > 1 ? variance * count / (count - 1.0) : variance;
    to.running_mean[c] = static_cast<float>((1.0 - p.momentum) * to.running_mean[c] + p.momentum * centre);
    to.running_var[c] = static_cast<float>((1.0 - p.momentum) * to.running_var[c] + p.momentum * unbiased);
  }
}

template <class T>
static void batch_norm(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormCall>();
  const T* x = call.at<T>(0);
  const T* other = call.at<T>(3);
  T* y = call.at<T>(7);
  const Statistics made{call.at<double>(4), call.at<float>(5), call.at<float>(6),
                        call.at<float>(8),  call.at<float>(9), call.at<double>(10)};
  statistics_of(x, p, made, threads);
  const Normal normal{made.mean, made.inverse, call.at<float>(1), call.at<float>(2)};
  const auto normalise = [&](const auto& map) { map_rows(threads, p.rows, p.depth, map); };
  if (p.has_other)
    p.relu ? normalise(Normalise<T, true, true>{normal, x, other, y})
           : normalise(Normalise<T, false, true>{normal, x, other, y});
  else
    p.relu ? normalise(Normalise<T, true, false>{normal, x, other, y})
           : normalise(Normalise<T, false, false>{normal, x, other, y});
}

template <class T>
static bool batch_norm_apply_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || !(p.epsilon >= 0.0) || p.has_other || p.parts) return false;
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
  int64_t rows, depth;
  int64_t relu;  // dy is closed where the ReLU behind the normalisation was
};

template <class T>
static bool batch_norm_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormGradCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[1] = bytes[6] = product(p.rows, p.depth, kBytes<T>);
  bytes[2] = bytes[4] = bytes[5] = bytes[7] = bytes[8] = product(p.depth, 4);
  bytes[3] = p.relu ? product(p.depth, 4) : 0;
  bytes[9] = product(partial_sums(p.rows, p.depth) * 2 + 2, p.depth, 8);
  return true;
}

// dy, closed where the ReLU behind the normalisation was: x is normalised again, which takes less time than
// to read what was made of it.
template <class T, bool kRelu>
struct Gated {
  const T* dy;

  Vector at(int64_t i, int width, Vector x, const Normal::Channels& of) const {
    const Vector open = load(dy + i, width);
    return kRelu ? Vector::where_positive(of.of(x), open) : open;
  }
};

// Σ dy and Σ dy·x̂
template <class T, bool kRelu>
struct GradientSums {
  Normal normal;
  const T* x;
  Gated<T, kRelu> dy;

  struct Channels {
    Normal::Channels normal;
    Vector inverse;
  };
  Channels channels(int64_t c, int width) const {
    return {normal.channels(c, width), load(normal.inverse + c, width)};
  }
  void add(int64_t i, int width, const Channels& of, Vector& one, Vector& two) const {
    const Vector from = load(x + i, width);
    const Vector d = dy.at(i, width, from, of.normal);
    one = one + d;
    two = two + d * ((from - of.normal.mean) * of.inverse);
  }
};

// dx of one number: weight·inverse·(dy − dbias/n − x̂·dweight/n)
struct Slope {
  Normal normal;
  const float *dweight, *dbias;
  float share;  // 1/n

  struct Channels {
    Normal::Channels normal;
    Vector inverse, even, slope;
    Vector of(Vector x, Vector dy) const {
      return normal.factor * (dy - even - (x - normal.mean) * inverse * slope);
    }
  };
  Channels channels(int64_t c, int width) const {
    return {normal.channels(c, width), load(normal.inverse + c, width),
            Vector::all(share) * load(dbias + c, width), Vector::all(share) * load(dweight + c, width)};
  }
};

template <class T, bool kRelu>
struct InputGradient {
  Slope slope;
  const T* x;
  Gated<T, kRelu> dy;
  T* dx;

  Slope::Channels channels(int64_t c, int width) const { return slope.channels(c, width); }
  void make(int64_t i, int width, const Slope::Channels& of) const {
    const Vector from = load(x + i, width);
    store(of.of(from, dy.at(i, width, from, of.normal)), dx + i, width);
  }
};

// dbias = Σ dy and dweight = Σ dy·x̂, from rows of x and dy that need not be all there are: where dy is
// nothing, neither sum gets anything.
template <class T, bool kRelu>
static void norm_parameter_grads(const Normal& normal, const T* x, const Gated<T, kRelu>& dy, int64_t rows,
                                 int64_t depth, float* dweight, float* dbias, double* sums,
                                 Threads& threads) {
  two_sums(threads, rows, depth, sums + 2 * depth, sums, GradientSums<T, kRelu>{normal, x, dy});
  for (int64_t c = 0; c < depth; ++c) {
    dbias[c] = static_cast<float>(sums[c]);
    dweight[c] = static_cast<float>(sums[depth + c]);
  }
}

template <class T, bool kRelu>
static void batch_norm_grad_of(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormGradCall>();
  const T* x = call.at<T>(0);
  const Gated<T, kRelu> dy{call.at<T>(1)};
  const Normal normal{call.at<float>(4), call.at<float>(5), call.at<float>(2), call.at<float>(3)};
  float* dweight = call.at<float>(7);
  float* dbias = call.at<float>(8);
  norm_parameter_grads(normal, x, dy, p.rows, p.depth, dweight, dbias, call.at<double>(9), threads);
  const Slope slope{normal, dweight, dbias, 1.0f / static_cast<float>(p.rows)};
  map_rows(threads, p.rows, p.depth, InputGradient<T, kRelu>{slope, x, dy, call.at<T>(6)});
}

// With x̂ = (x − mean)·inverse: dbias = Σ dy, dweight = Σ dy·x̂,
// dx = weight·inverse·(dy − dbias/n − x̂·dweight/n).
template <class T>
static void batch_norm_grad(const Call& call, Threads& threads) {
  if (call.as<BatchNormGradCall>().relu)
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
