// Losses of (N, K) scores, and what is counted over a batch. A score is small work: one pass an image.

struct LossCall {
  int64_t images, classes;
  double smoothing;
};

static bool sensible(const LossCall& p) {
  return p.images > 0 && p.classes > 0 && p.smoothing >= 0.0 && p.smoothing <= 1.0;
}

static bool softmax_cross_entropy_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const LossCall*>(parameters);
  if (!sensible(p)) return false;
  bytes[0] = bytes[3] = product(p.images, p.classes, 4);
  bytes[1] = product(p.images, 8);
  bytes[2] = product(p.images, 4);
  return true;
}

// loss = −Σ q·log softmax(scores), q = (1 − smoothing)·[label] + smoothing/K
static void softmax_cross_entropy(const Call& call, Threads& threads) {
  const auto& p = call.as<LossCall>();
  const int64_t* labels = call.at<int64_t>(1);
  by_rows(threads, p.images, p.classes, [&](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      const float* scores = call.at<float>(0) + n * p.classes;
      float* probabilities = call.at<float>(3) + n * p.classes;
      const double top = static_cast<double>(scores[largest(scores, p.classes)]);
      double sum = 0.0, mean = 0.0;
      for (int64_t k = 0; k < p.classes; ++k) {
        const double above = static_cast<double>(scores[k]) - top;
        const double e = exp(above);
        probabilities[k] = static_cast<float>(e);
        sum += e;
        mean += above;
      }
      for (int64_t k = 0; k < p.classes; ++k)
        probabilities[k] = static_cast<float>(static_cast<double>(probabilities[k]) / sum);
      const double own = static_cast<double>(scores[labels[n]]) - top;
      // A factor of zero leaves its term out, even an infinite one.
      double aim = p.smoothing < 1.0 ? (1.0 - p.smoothing) * own : 0.0;
      if (p.smoothing > 0.0) aim += p.smoothing * mean / static_cast<double>(p.classes);
      call.at<float>(2)[n] = static_cast<float>(log(sum) - aim);
    }
  });
}

template <class T>
static bool softmax_cross_entropy_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const LossCall*>(parameters);
  if (!sensible(p)) return false;
  bytes[0] = product(p.images, p.classes, 4);
  bytes[2] = product(p.images, p.classes, kBytes<T>);
  bytes[1] = product(p.images, 8);
  return true;
}

template <class T>
static void softmax_cross_entropy_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<LossCall>();
  const float* probabilities = call.at<float>(0);
  const int64_t* labels = call.at<int64_t>(1);
  T* dx = call.at<T>(2);
  const float share = 1.0f / static_cast<float>(p.images);
  const float even = static_cast<float>(p.smoothing / static_cast<double>(p.classes));
  const float own = static_cast<float>(1.0 - p.smoothing);
  by_rows(threads, p.images, p.classes, [&](int64_t first, int64_t last) {
    for (int64_t i = first * p.classes; i < last * p.classes; ++i)
      put(dx + i, (probabilities[i] - even) * share);
    for (int64_t n = first; n < last; ++n) {
      const int64_t i = n * p.classes + labels[n];
      put(dx + i, (probabilities[i] - even - own) * share);
    }
  });
}

static bool target_cross_entropy_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const RowsCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[1] = bytes[3] = product(p.rows, p.depth, 4);
  bytes[2] = product(p.rows, 4);
  return true;
}

// loss = −Σ t·log softmax(scores). A class that is not aimed at has no part in it, however unlikely it is.
static void target_cross_entropy(const Call& call, Threads& threads) {
  const auto& p = call.as<RowsCall>();
  by_rows(threads, p.rows, p.depth, [&](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      const float* scores = call.at<float>(0) + n * p.depth;
      const float* targets = call.at<float>(1) + n * p.depth;
      float* probabilities = call.at<float>(3) + n * p.depth;
      const double top = static_cast<double>(scores[largest(scores, p.depth)]);
      double sum = 0.0, mass = 0.0, aim = 0.0;
      for (int64_t k = 0; k < p.depth; ++k) {
        const double above = static_cast<double>(scores[k]) - top, target = static_cast<double>(targets[k]);
        const double e = exp(above);
        probabilities[k] = static_cast<float>(e);
        sum += e;
        mass += target;
        if (target != 0.0) aim += target * above;
      }
      for (int64_t k = 0; k < p.depth; ++k)
        probabilities[k] = static_cast<float>(static_cast<double>(probabilities[k]) / sum);
      call.at<float>(2)[n] = static_cast<float>(mass * log(sum) - aim);
    }
  });
}

template <class T>
static bool target_cross_entropy_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const RowsCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[1] = product(p.rows, p.depth, 4);
  bytes[2] = product(p.rows, p.depth, kBytes<T>);
  return true;
}

// Of the mean over rows: (Σ t · probability − t)/rows, for targets need not add up to 1.
template <class T>
static void target_cross_entropy_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<RowsCall>();
  const float share = 1.0f / static_cast<float>(p.rows);
  by_rows(threads, p.rows, p.depth, [&](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      const float* probabilities = call.at<float>(0) + n * p.depth;
      const float* targets = call.at<float>(1) + n * p.depth;
      T* dx = call.at<T>(2) + n * p.depth;
      double sum = 0.0;
      for (int64_t k = 0; k < p.depth; ++k) sum += static_cast<double>(targets[k]);
      const float mass = static_cast<float>(sum);
      for (int64_t k = 0; k < p.depth; ++k) put(dx + k, (mass * probabilities[k] - targets[k]) * share);
    }
  });
}

static bool hinge_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const LossCall*>(parameters);
  if (!sensible(p)) return false;
  bytes[0] = product(p.images, p.classes, 4);
  bytes[1] = product(p.images, 8);
  bytes[2] = product(p.images, 4);
  return true;
}

// loss = Σ over wrong classes of max(0, score − score of the label + 1)
static void hinge(const Call& call, Threads& threads) {
  const auto& p = call.as<LossCall>();
  const int64_t* labels = call.at<int64_t>(1);
  by_rows(threads, p.images, p.classes, [&](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      const float* scores = call.at<float>(0) + n * p.classes;
      double sum = 0.0;
      for (int64_t k = 0; k < p.classes; ++k) {
        const double margin = static_cast<double>(scores[k]) - static_cast<double>(scores[labels[n]]) + 1.0;
        if (k != labels[n] && !(margin <= 0.0)) sum += margin;
      }
      call.at<float>(2)[n] = static_cast<float>(sum);
    }
  });
}

template <class T>
static bool hinge_grad_sizes(const void* parameters, int64_t* bytes) {
  if (!hinge_sizes(parameters, bytes)) return false;
  const auto& p = *static_cast<const LossCall*>(parameters);
  bytes[2] = product(p.images, p.classes, kBytes<T>);
  return true;
}

template <class T>
static void hinge_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<LossCall>();
  const int64_t* labels = call.at<int64_t>(1);
  const float share = 1.0f / static_cast<float>(p.images);
  by_rows(threads, p.images, p.classes, [&](int64_t first, int64_t last) {
    for (int64_t n = first; n < last; ++n) {
      const float* scores = call.at<float>(0) + n * p.classes;
      T* dx = call.at<T>(2) + n * p.classes;
      int64_t over = 0;
      for (int64_t k = 0; k < p.classes; ++k) {
        const double margin = static_cast<double>(scores[k]) - static_cast<double>(scores[labels[n]]) + 1.0;
        const bool wrong = k != labels[n] && margin > 0.0;
        put(dx + k, wrong ? share : 0.0f);
        over += wrong;
      }
      put(dx + labels[n], -share * static_cast<float>(over));
    }
  });
}

static bool mean_loss_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const SizeCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = product(p.size, 4);
  bytes[1] = 8;
  return true;
}

static void mean_loss(const Call& call, Threads&) {
  const int64_t size = call.as<SizeCall>().size;
  double sum = 0.0;
  for (int64_t n = 0; n < size; ++n) sum += static_cast<double>(call.at<float>(0)[n]);
  *call.at<double>(1) = sum / static_cast<double>(size);
}

static bool count_correct_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const LossCall*>(parameters);
  if (!sensible(p)) return false;
  bytes[0] = product(p.images, p.classes, 4);
  bytes[1] = product(p.images, 8);
  bytes[2] = 8;
  return true;
}

// An image whose largest score is no number is not correct.
static void count_correct(const Call& call, Threads&) {
  const auto& p = call.as<LossCall>();
  int64_t correct = 0;
  for (int64_t n = 0; n < p.images; ++n) {
    const float* scores = call.at<float>(0) + n * p.classes;
    const int64_t best = largest(scores, p.classes);
    correct += best == call.at<int64_t>(1)[n] && scores[best] == scores[best];
  }
  *call.at<double>(2) = static_cast<double>(correct);
}

struct PenaltyCall {
  int64_t size;
  double l2, l1;
  int64_t first;
};

static bool penalty_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PenaltyCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = product(p.size, 4);
  bytes[1] = 8;
  return true;
}

// Adds ½·l2·Σw² + l1·Σ|w| of one array to the sum of those before it.
static void penalty(const Call& call, Threads&) {
  const auto& p = call.as<PenaltyCall>();
  const float* w = call.at<float>(0);
  double squares = 0.0, sizes = 0.0;
  for (int64_t i = 0; i < p.size; ++i) {
    const double x = static_cast<double>(w[i]);
    squares += x * x;
    sizes += x < 0.0 ? -x : x;
  }
  const double before = p.first ? 0.0 : *call.at<double>(1);
  *call.at<double>(1) = before + 0.5 * p.l2 * squares + p.l1 * sizes;
}
