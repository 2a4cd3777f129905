// Batch normalisation. Sums are taken about a pivot, the first row, so that a large mean costs no digits;
// short runs in float, the rest in double, cut by size alone.

struct BatchNormCall {
  int64_t rows, depth;
  double epsilon, momentum;
  int64_t update, relu;
};

static bool batch_norm_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || !(p.epsilon >= 0.0)) return false;
  bytes[0] = bytes[5] = product(p.rows, p.depth, 4);
  bytes[1] = bytes[2] = bytes[6] = bytes[7] = product(p.depth, 4);
  bytes[3] = bytes[4] = p.update ? product(p.depth, 4) : 0;
  bytes[8] = product(partial_sums(p.rows, p.depth) * 2 + 2, p.depth, 8);
  return true;
}

constexpr int64_t kShortRun = 32;  // rows whose sum is kept in float
constexpr int64_t kLane = 64;      // channels summed side by side

// Adds up two functions of (row, channel) over `rows` rows: sums[0..depth) and sums[depth..2·depth).
template <class Terms>
static void two_sums(Threads& threads, int64_t rows, int64_t depth, double* partial, double* sums,
                     const Terms& terms) {
  const int64_t parts = partial_sums(rows, depth);
  threads.each(parts, [&](int64_t part) {
    double* total = partial + part * 2 * depth;
    for (int64_t c = 0; c < 2 * depth; ++c) total[c] = 0.0;
    const int64_t end = rows * (part + 1) / parts;
    for (int64_t first = rows * part / parts; first < end; first += kShortRun) {
      const int64_t last = lesser(end, first + kShortRun);
      for (int64_t from = 0; from < depth; from += kLane) {
        const int64_t width = lesser(kLane, depth - from);
        float one[kLane] = {}, two[kLane] = {};
        for (int64_t row = first; row < last; ++row)
          for (int64_t c = 0; c < width; ++c) terms(row * depth + from + c, from + c, one[c], two[c]);
        for (int64_t c = 0; c < width; ++c) {
          total[from + c] += static_cast<double>(one[c]);
          total[depth + from + c] += static_cast<double>(two[c]);
        }
      }
    }
  });
  for (int64_t c = 0; c < 2 * depth; ++c) {
    sums[c] = 0.0;
    for (int64_t part = 0; part < parts; ++part) sums[c] += partial[part * 2 * depth + c];
  }
}

static void batch_norm(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormCall>();
  const float* x = call.at<float>(0);
  const float* weight = call.at<float>(1);
  const float* bias = call.at<float>(2);
  float* running_mean = call.at<float>(3);
  float* running_var = call.at<float>(4);
  float* y = call.at<float>(5);
  float* mean = call.at<float>(6);
  float* inverse = call.at<float>(7);
  double* sums = call.at<double>(8);
  two_sums(threads, p.rows, p.depth, sums + 2 * p.depth, sums,
           [&](int64_t i, int64_t c, float& one, float& two) {
             const float d = x[i] - x[c];
             one += d;
             two += d * d;
           });
  const double count = static_cast<double>(p.rows);
  for (int64_t c = 0; c < p.depth; ++c) {
    const double shift = sums[c] / count;
    const double spread = sums[p.depth + c] / count - shift * shift;
    const double variance = spread < 0.0 ? 0.0 : spread;
    const double centre = static_cast<double>(x[c]) + shift;
    mean[c] = static_cast<float>(centre);
    inverse[c] = static_cast<float>(1.0 / sqrt(variance + p.epsilon));
    if (!p.update) continue;
    const double unbiased = p.rows > 1 ? variance * count / (count - 1.0) : variance;
    running_mean[c] = static_cast<float>((1.0 - p.momentum) * running_mean[c] + p.momentum * centre);
    running_var[c] = static_cast<float>((1.0 - p.momentum) * running_var[c] + p.momentum * unbiased);
  }
  by_rows(threads, p.rows, p.depth, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      for (int64_t c = 0; c < p.depth; ++c) {
        const int64_t i = row * p.depth + c;
        const float normal = (x[i] - mean[c]) * (inverse[c] * weight[c]) + bias[c];
        y[i] = p.relu && normal < 0.0f ? 0.0f : normal;
      }
  });
}

static bool batch_norm_apply_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || !(p.epsilon >= 0.0)) return false;
  bytes[0] = bytes[5] = product(p.rows, p.depth, 4);
  bytes[1] = bytes[2] = bytes[3] = bytes[4] = product(p.depth, 4);
  bytes[6] = product(2, p.depth, 4);
  return true;
}

static void batch_norm_apply(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormCall>();
  const float* x = call.at<float>(0);
  const float* weight = call.at<float>(1);
  const float* bias = call.at<float>(2);
  const float* mean = call.at<float>(3);
  const float* variance = call.at<float>(4);
  float* y = call.at<float>(5);
  float* scale = call.at<float>(6);
  float* shift = scale + p.depth;
  for (int64_t c = 0; c < p.depth; ++c) {
    const double factor = static_cast<double>(weight[c]) / sqrt(static_cast<double>(variance[c]) + p.epsilon);
    scale[c] = static_cast<float>(factor);
    shift[c] = static_cast<float>(static_cast<double>(bias[c]) - static_cast<double>(mean[c]) * factor);
  }
  by_rows(threads, p.rows, p.depth, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      for (int64_t c = 0; c < p.depth; ++c) {
        const int64_t i = row * p.depth + c;
        const float normal = x[i] * scale[c] + shift[c];
        y[i] = p.relu && normal < 0.0f ? 0.0f : normal;
      }
  });
}

struct BatchNormGradCall {
  int64_t rows, depth;
};

static bool batch_norm_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormGradCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[1] = bytes[5] = product(p.rows, p.depth, 4);
  bytes[2] = bytes[3] = bytes[4] = bytes[6] = bytes[7] = product(p.depth, 4);
  bytes[8] = product(partial_sums(p.rows, p.depth) * 2 + 2, p.depth, 8);
  return true;
}

// With x̂ = (x − mean)·inverse: dbias = Σ dy, dweight = Σ dy·x̂,
// dx = weight·inverse·(dy − dbias/n − x̂·dweight/n).
static void batch_norm_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormGradCall>();
  const float* x = call.at<float>(0);
  const float* dy = call.at<float>(1);
  const float* weight = call.at<float>(2);
  const float* mean = call.at<float>(3);
  const float* inverse = call.at<float>(4);
  float* dx = call.at<float>(5);
  float* dweight = call.at<float>(6);
  float* dbias = call.at<float>(7);
  double* sums = call.at<double>(8);
  two_sums(threads, p.rows, p.depth, sums + 2 * p.depth, sums,
           [&](int64_t i, int64_t c, float& one, float& two) {
             one += dy[i];
             two += dy[i] * ((x[i] - mean[c]) * inverse[c]);
           });
  for (int64_t c = 0; c < p.depth; ++c) {
    dbias[c] = static_cast<float>(sums[c]);
    dweight[c] = static_cast<float>(sums[p.depth + c]);
  }
  const float share = 1.0f / static_cast<float>(p.rows);
  by_rows(threads, p.rows, p.depth, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      for (int64_t c = 0; c < p.depth; ++c) {
        const int64_t i = row * p.depth + c;
        const float normal = (x[i] - mean[c]) * inverse[c];
        dx[i] = weight[c] * inverse[c] * (dy[i] - share * dbias[c] - normal * (share * dweight[c]));
      }
  });
}
