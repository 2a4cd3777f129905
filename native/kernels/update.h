// One step of an optimizer on any number of parameters, in place. Factors are made in double.

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

struct SgdCall {
  int64_t size;
  double momentum;
  int64_t nesterov;
  double l2, l1, decay;
};

static bool sgd_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const SgdCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = bytes[3] = product(p.size, 4);
  bytes[1] = bytes[2] = 8;
  bytes[4] = p.momentum != 0.0 ? product(p.size, 4) : 0;
  return true;
}

// What regularisation makes of a gradient: g + l2·w + l1·sign(w).
struct Regular {
  float l2, l1;
  float operator()(float g, float w) const {
    const float sign = w > 0.0f ? l1 : w < 0.0f ? -l1 : 0.0f;
    return g + l2 * w + sign;
  }
};

static void sgd_part(const Call& call, int64_t first, int64_t last) {
  const auto& p = call.as<SgdCall>();
  const float* __restrict g = call.at<float>(0);
  const double rate = *call.at<double>(1);
  float* __restrict w = call.at<float>(3);
  float* __restrict v = call.at<float>(4);
  const Regular regular{static_cast<float>(p.l2), static_cast<float>(p.l1)};
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
  double alpha, epsilon, momentum, l2, l1, decay;
};

static bool rmsprop_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const RmspropCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = bytes[3] = bytes[4] = product(p.size, 4);
  bytes[1] = bytes[2] = 8;
  bytes[5] = p.momentum != 0.0 ? product(p.size, 4) : 0;
  return true;
}

static void rmsprop_part(const Call& call, int64_t first, int64_t last) {
  const auto& p = call.as<RmspropCall>();
  const float* __restrict g = call.at<float>(0);
  const double rate = *call.at<double>(1);
  float* __restrict w = call.at<float>(3);
  float* __restrict s = call.at<float>(4);
  float* __restrict v = call.at<float>(5);
  const Regular regular{static_cast<float>(p.l2), static_cast<float>(p.l1)};
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
  double beta1, beta2, epsilon, l2, l1, decay;
};

static bool adam_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const AdamCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = bytes[3] = bytes[4] = bytes[5] = product(p.size, 4);
  bytes[1] = bytes[2] = 8;
  return true;
}

static void adam_part(const Call& call, int64_t first, int64_t last) {
  const auto& p = call.as<AdamCall>();
  const float* __restrict g = call.at<float>(0);
  const double rate = *call.at<double>(1), number = static_cast<double>(*call.at<uint64_t>(2));
  float* __restrict w = call.at<float>(3);
  float* __restrict m = call.at<float>(4);
  float* __restrict s = call.at<float>(5);
  const Regular regular{static_cast<float>(p.l2), static_cast<float>(p.l1)};
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
