// The norm of all gradients, one step of an optimizer on any number of parameters, in place, and the moving
// average of what it leaves. Factors are made in double.

// Calls work(part, first, last) for runs of the numbers of every part. Tasks are cut from all parts as if
// they lay in a row, so that many small parameters are one task; each part fills its last cache line there,
// so that no run begins within one.
template <class Parameters, class Work>
static void by_parts(const Call& call, Threads& threads, const Work& work) {
  constexpr int64_t kLine = 64 / sizeof(float);
  const auto room = [&](int64_t i) {
    return pieces(call.part<Parameters>(i).template as<Parameters>().size, kLine) * kLine;
  };
  int64_t total = 0;
  for (int64_t i = 0; i < call.count; ++i) total += room(i);
  threads.each(pieces(total, kTaskNumbers), [&](int64_t task) {
    const int64_t first = task * kTaskNumbers, last = lesser(total, first + kTaskNumbers);
    int64_t begin = 0;
    for (int64_t i = 0; i < call.count && begin < last; ++i) {
      const Call part = call.part<Parameters>(i);
      const int64_t end = begin + part.template as<Parameters>().size;
      if (end > first) work(part, greater(first, begin) - begin, lesser(last, end) - begin);
      begin += room(i);
    }
  });
}

constexpr int64_t kLanes = 16;  // sums that grow side by side

// Σx² in double, where a product of two floats is exact.
static double squares(const float* x, int64_t size) {
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(x[i + lane]);
      sums[lane] += value * value;
    }
  for (; i < size; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

static int64_t squares_bytes(int64_t size) { return product(pieces(size, kTaskNumbers), 8); }

// The same shared out, with a partial sum for each task, added in order.
static double squares(const float* x, int64_t size, double* partial, Threads& threads) {
  by_numbers(threads, size, [&](int64_t first, int64_t last) {
    partial[first / kTaskNumbers] = squares(x + first, last - first);
  });
  double total = 0.0;
  for (int64_t i = 0; i < pieces(size, kTaskNumbers); ++i) total += partial[i];
  return total;
}

struct GradientNormCall {
  int64_t size;
  double clip;  // what the norm is brought down to, 0 for never
  int64_t first, last;
};

static bool gradient_norm_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const GradientNormCall*>(parameters);
  if (p.size <= 0 || !(p.clip >= 0.0)) return false;
  bytes[0] = product(p.size, 4);
  bytes[1] = squares_bytes(p.size);
  bytes[2] = 8;
  bytes[3] = p.clip > 0.0 ? 8 : 0;
  return true;
}

// Adds Σg² of one gradient to the sum of those before it; the last call makes the norm of it, and what every
// gradient is to be multiplied by.
static void gradient_norm(const Call& call, Threads& threads) {
  const auto& p = call.as<GradientNormCall>();
  double* norm = call.at<double>(2);
  const double sum = squares(call.at<float>(0), p.size, call.at<double>(1), threads);
  *norm = p.first ? sum : *norm + sum;
  if (!p.last) return;
  *norm = sqrt(*norm);
  if (p.clip == 0.0) return;
  const double scale = p.clip / (*norm + 1e-6);
  *call.at<double>(3) = scale > 1.0 ? 1.0 : scale;  // no number stays none
}

// What regularisation makes of a gradient that may be clipped: scale·g + l2·w + l1·sign(w).
struct Regular {
  float l2, l1, scale;

  template <class Parameters>
  static Regular of(const Call& call) {
    const auto& p = call.as<Parameters>();
    const double scale = p.clipped ? *call.at<double>(3) : 1.0;
    return {static_cast<float>(p.l2), static_cast<float>(p.l1), static_cast<float>(scale)};
  }
  float operator()(float g, float w) const {
    const float sign = w > 0.0f ? l1 : w < 0.0f ? -l1 : 0.0f;
    return scale * g + l2 * w + sign;
  }
};

struct SgdCall {
  int64_t size;
  double momentum;
  int64_t nesterov;
  double l2, l1, decay, rate_factor;
  int64_t clipped;
};

static bool sgd_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const SgdCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = bytes[4] = product(p.size, 4);
  bytes[1] = bytes[2] = 8;
  bytes[3] = p.clipped ? 8 : 0;
  bytes[5] = p.momentum != 0.0 ? product(p.size, 4) : 0;
  return true;
}

static void sgd_part(const Call& call, int64_t first, int64_t last) {
  const auto& p = call.as<SgdCall>();
  const float* __restrict g = call.at<float>(0);
  const double rate = p.rate_factor * *call.at<double>(1);
  float* __restrict w = call.at<float>(4);
  float* __restrict v = call.at<float>(5);
  const Regular regular = Regular::of<SgdCall>(call);
  const float shrink = static_cast<float>(1.0 - rate * p.decay), step = static_cast<float>(rate);
  const float momentum = static_cast<float>(p.momentum);
  if (p.momentum == 0.0) {
    for (int64_t i = first; i < last; ++i) w[i] = shrink * w[i] - step * regular(g[i], w[i]);
  } else if (p.nesterov) {
    for (int64_t i = first; i < last; ++i) {
      const float d = regular(g[i], w[i]);
      v[i] = momentum * v[i] + d;
      w[i] = shrink * w[i] - step * (d + momentum * v[i]);
    }
  } else {
    for (int64_t i = first; i < last; ++i) {
      v[i] = momentum * v[i] + regular(g[i], w[i]);
      w[i] = shrink * w[i] - step * v[i];
    }
  }
}

static void sgd(const Call& call, Threads& threads) { by_parts<SgdCall>(call, threads, sgd_part); }

struct RmspropCall {
  int64_t size;
  double alpha, epsilon, momentum, l2, l1, decay, rate_factor;
  int64_t clipped;
};

static bool rmsprop_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const RmspropCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = bytes[4] = bytes[5] = product(p.size, 4);
  bytes[1] = bytes[2] = 8;
  bytes[3] = p.clipped ? 8 : 0;
  bytes[6] = p.momentum != 0.0 ? product(p.size, 4) : 0;
  return true;
}

static void rmsprop_part(const Call& call, int64_t first, int64_t last) {
  const auto& p = call.as<RmspropCall>();
  const float* __restrict g = call.at<float>(0);
  const double rate = p.rate_factor * *call.at<double>(1);
  float* __restrict w = call.at<float>(4);
  float* __restrict s = call.at<float>(5);
  float* __restrict v = call.at<float>(6);
  const Regular regular = Regular::of<RmspropCall>(call);
  const float shrink = static_cast<float>(1.0 - rate * p.decay), step = static_cast<float>(rate);
  const float alpha = static_cast<float>(p.alpha), rest = static_cast<float>(1.0 - p.alpha);
  const float epsilon = static_cast<float>(p.epsilon), momentum = static_cast<float>(p.momentum);
  for (int64_t i = first; i < last; ++i) {
    const float d = regular(g[i], w[i]);
    s[i] = alpha * s[i] + rest * d * d;
    float move = d / (sqrtf(s[i]) + epsilon);
    if (p.momentum != 0.0) move = v[i] = momentum * v[i] + move;
    w[i] = shrink * w[i] - step * move;
  }
}

static void rmsprop(const Call& call, Threads& threads) {
  by_parts<RmspropCall>(call, threads, rmsprop_part);
}

struct AdamCall {
  int64_t size;
  double beta1, beta2, epsilon, l2, l1, decay, rate_factor;
  int64_t clipped;
};

static bool adam_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const AdamCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = bytes[4] = bytes[5] = bytes[6] = product(p.size, 4);
  bytes[1] = bytes[2] = 8;
  bytes[3] = p.clipped ? 8 : 0;
  return true;
}

static void adam_part(const Call& call, int64_t first, int64_t last) {
  const auto& p = call.as<AdamCall>();
  const float* __restrict g = call.at<float>(0);
  const double rate = p.rate_factor * *call.at<double>(1),
               number = static_cast<double>(*call.at<uint64_t>(2));
  float* __restrict w = call.at<float>(4);
  float* __restrict m = call.at<float>(5);
  float* __restrict s = call.at<float>(6);
  const Regular regular = Regular::of<AdamCall>(call);
  const float shrink = static_cast<float>(1.0 - rate * p.decay);
  const float step = static_cast<float>(rate / (1.0 - pow(p.beta1, number)));
  const float root = static_cast<float>(1.0 / sqrt(1.0 - pow(p.beta2, number)));
  const float epsilon = static_cast<float>(p.epsilon);
  const float beta1 = static_cast<float>(p.beta1), rest1 = static_cast<float>(1.0 - p.beta1);
  const float beta2 = static_cast<float>(p.beta2), rest2 = static_cast<float>(1.0 - p.beta2);
  for (int64_t i = first; i < last; ++i) {
    const float d = regular(g[i], w[i]);
    m[i] = beta1 * m[i] + rest1 * d;
    s[i] = beta2 * s[i] + rest2 * d * d;
    w[i] = shrink * w[i] - step * m[i] / (sqrtf(s[i]) * root + epsilon);
  }
}

static void adam(const Call& call, Threads& threads) { by_parts<AdamCall>(call, threads, adam_part); }

struct AverageCall {
  int64_t size;
  double decay;
};

static bool average_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const AverageCall*>(parameters);
  if (p.size <= 0 || !(p.decay >= 0.0 && p.decay < 1.0)) return false;
  bytes[0] = bytes[2] = product(p.size, 4);
  bytes[1] = 8;
  return true;
}

static void average_part(const Call& call, int64_t first, int64_t last) {
  const auto& p = call.as<AverageCall>();
  const float* __restrict w = call.at<float>(0);
  const double number = static_cast<double>(*call.at<uint64_t>(1));
  float* __restrict mean = call.at<float>(2);
  const float share = static_cast<float>((1.0 - p.decay) / (1.0 - pow(p.decay, number)));
  if (share == 1.0f) {
    for (int64_t i = first; i < last; ++i) mean[i] = w[i];
  } else {
    for (int64_t i = first; i < last; ++i) mean[i] += share * (w[i] - mean[i]);
  }
}

static void average(const Call& call, Threads& threads) {
  by_parts<AverageCall>(call, threads, average_part);
}
