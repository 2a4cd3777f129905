// Activation functions, dropout and sums: each number on its own, whatever the layout.

enum Function : int64_t { kRelu, kLeaky, kElu, kSelu, kSigmoid, kTanh, kGelu, kSilu, kScale, kFunctions };

// Klambauer et al., "Self-Normalizing Neural Networks", 2017.
constexpr float kSeluAlpha = 1.6732632423543772f;
constexpr float kSeluScale = 1.0507009873554805f;

struct ActivationCall {
  int64_t size, function;
  double alpha;
};

template <class T>
static bool activation_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const ActivationCall*>(parameters);
  if (p.size <= 0 || p.function < 0 || p.function >= kFunctions) return false;
  bytes[0] = bytes[1] = product(p.size, kBytes<T>);
  return true;
}

template <class T>
static bool activation_grad_sizes(const void* parameters, int64_t* bytes) {
  if (!activation_sizes<T>(parameters, bytes)) return false;
  bytes[2] = bytes[0];
  return true;
}

template <class T, class Map>
static void map_numbers(const Call& call, Threads& threads, int64_t size, const Map& map) {
  const T* __restrict x = call.at<T>(0);
  T* __restrict y = call.at<T>(1);
  by_numbers(threads, size, [&](int64_t first, int64_t last) {
    const auto own = map;  // near, so that its constants are not read anew for every number
    for (int64_t i = first; i < last; ++i) put(y + i, own(widened(x[i])));
  });
}

// Both sides of a choice are computed before it, here and below: a branch would not be foreseen.
template <class T>
static void activation(const Call& call, Threads& threads) {
  const auto& p = call.as<ActivationCall>();
  const float alpha = static_cast<float>(p.alpha);
  const auto run = [&](auto map) { map_numbers<T>(call, threads, p.size, map); };
  switch (p.function) {
    case kRelu:
      return by_numbers(threads, p.size, [&](int64_t first, int64_t last) {
        by_vectors(last - first, [&](int64_t i, int width) {
          store(Vector::positive(load(call.at<T>(0) + first + i, width)), call.at<T>(1) + first + i, width);
        });
      });
    case kLeaky:
      return run([=](float x) {
        const float below = alpha * x;
        return x < 0.0f ? below : x;
      });
    case kElu:
      return run([=](float x) {
        const float below = alpha * exponential_less_one(x);
        return x < 0.0f ? below : x;
      });
    case kSelu:
      return run([](float x) {
        const float below = kSeluAlpha * exponential_less_one(x);
        return kSeluScale * (x < 0.0f ? below : x);
      });
    case kSigmoid:
      return run([](float x) { return sigmoid(x); });
    case kTanh:
      return run([](float x) { return hyperbolic_tangent(x); });
    case kGelu:
      return run([](float x) { return x * gauss(x).share; });
    case kSilu:
      return run([](float x) { return x * sigmoid(x); });
    case kScale:
      return run([=](float x) { return alpha * x; });
  }
}

// dx from dy and what was kept: x for gelu and silu, y for the others. Where a function has a corner, at 0,
// the slope is the one from below, as in PyTorch.
template <class T>
static void activation_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<ActivationCall>();
  const float alpha = static_cast<float>(p.alpha);
  const T* __restrict kept = call.at<T>(0);
  const T* __restrict dy = call.at<T>(1);
  T* __restrict dx = call.at<T>(2);
  const auto run = [&](auto slope) {
    by_numbers(threads, p.size, [=](int64_t first, int64_t last) {
      const auto own = slope;
      for (int64_t i = first; i < last; ++i) put(dx + i, widened(dy[i]) * own(widened(kept[i])));
    });
  };
  switch (p.function) {
    case kRelu:
      return by_numbers(threads, p.size, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          const float open = widened(dy[i]);
          put(dx + i, widened(kept[i]) <= 0.0f ? 0.0f : open);
        }
      });
    case kLeaky:
      return run([=](float y) { return y > 0.0f ? 1.0f : alpha; });
    case kElu:
      return run([=](float y) { return y > 0.0f ? 1.0f : y + alpha; });
    case kSelu:
      return run([](float y) { return y > 0.0f ? kSeluScale : y + kSeluScale * kSeluAlpha; });
    case kSigmoid:
      return run([](float y) { return y * (1.0f - y); });
    case kTanh:
      return run([](float y) { return 1.0f - y * y; });
    case kGelu:
      return run([](float x) {
        const Gauss n = gauss(x);
        return n.share + x * n.density;
      });
    case kSilu:
      return run([](float x) {
        const float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
      });
    case kScale:
      return run([=](float) { return alpha; });
  }
}

// y = a + b, and what a ReLU behind it (`relu`), or the gradient of one before it (`gate`), makes of that.
struct AddCall {
  int64_t size, relu, has_gate;
};

template <class T>
static bool add_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const AddCall*>(parameters);
  if (p.size <= 0 || (p.relu && p.has_gate)) return false;
  bytes[0] = bytes[1] = bytes[3] = product(p.size, kBytes<T>);
  bytes[2] = p.has_gate ? bytes[0] : 0;
  return true;
}

template <class T>
static void add(const Call& call, Threads& threads) {
  const auto& p = call.as<AddCall>();
  const T* __restrict a = call.at<T>(0);
  const T* __restrict b = call.at<T>(1);
  const T* __restrict gate = p.has_gate ? call.at<T>(2) : nullptr;
  T* __restrict y = call.at<T>(3);
  const bool relu = p.relu != 0;
  by_numbers(threads, p.size, [&](int64_t first, int64_t last) {
    if (gate) {
      for (int64_t i = first; i < last; ++i) {
        const float sum = widened(a[i]) + widened(b[i]);
        put(y + i, widened(gate[i]) <= 0.0f ? 0.0f : sum);
      }
    } else {
      for (int64_t i = first; i < last; ++i) {
        const float sum = widened(a[i]) + widened(b[i]);
        put(y + i, relu && sum < 0.0f ? 0.0f : sum);
      }
    }
  });
}

struct RowsCall {
  int64_t rows, depth;
};

// One slope a channel (He et al. 2015).
template <class T>
static bool prelu_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const RowsCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[2] = product(p.rows, p.depth, kBytes<T>);
  bytes[1] = product(p.depth, 4);
  return true;
}

// x, or slope·x where it is below zero
template <class T>
struct Prelu {
  const T* x;
  const float* slope;
  T* y;

  Vector channels(int64_t c, int width) const { return load(slope + c, width); }
  void make(int64_t i, int width, Vector of) const {
    const Vector value = load(x + i, width);
    store(Vector::where_beats(Vector::zero(), value, of * value, value), y + i, width);
  }
};

template <class T>
static void prelu(const Call& call, Threads& threads) {
  const auto& p = call.as<RowsCall>();
  map_rows(threads, p.rows, p.depth, Prelu<T>{call.at<T>(0), call.at<float>(1), call.at<T>(2)});
}

template <class T>
static bool prelu_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const RowsCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[2] = bytes[3] = product(p.rows, p.depth, kBytes<T>);
  bytes[1] = bytes[4] = product(p.depth, 4);
  bytes[5] = product(partial_sums(p.rows, p.depth), p.depth, 8);
  return true;
}

template <class T>
static void prelu_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<RowsCall>();
  const T* __restrict x = call.at<T>(0);
  const float* __restrict slope = call.at<float>(1);
  const T* __restrict dy = call.at<T>(2);
  T* __restrict dx = call.at<T>(3);
  float* dslope = call.at<float>(4);
  double* partial = call.at<double>(5);
  const int64_t parts = partial_sums(p.rows, p.depth);
  threads.each(parts, [&](int64_t part) {
    double* __restrict sum = partial + part * p.depth;
    for (int64_t c = 0; c < p.depth; ++c) sum[c] = 0.0;
    for (int64_t row = p.rows * part / parts; row < p.rows * (part + 1) / parts; ++row)
      for (int64_t c = 0; c < p.depth; ++c) {
        const int64_t i = row * p.depth + c;
        const float value = widened(x[i]), above = widened(dy[i]), below = slope[c] * above;
        const float product = value * above;
        put(dx + i, value > 0.0f ? above : below);
        sum[c] += static_cast<double>(value > 0.0f ? 0.0f : product);
      }
  });
  for (int64_t c = 0; c < p.depth; ++c) {
    double sum = 0.0;
    for (int64_t part = 0; part < parts; ++part) sum += partial[part * p.depth + c];
    dslope[c] = static_cast<float>(sum);
  }
}

struct MaxoutCall {
  int64_t rows, depth, pieces;  // depth of the output
};

template <class T>
static bool maxout_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const MaxoutCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || p.pieces <= 0) return false;
  bytes[0] = product(p.rows, p.depth, p.pieces, kBytes<T>);
  bytes[1] = product(p.rows, p.depth, kBytes<T>);
  return true;
}

template <class T>
static bool maxout_grad_sizes(const void* parameters, int64_t* bytes) {
  if (!maxout_sizes<T>(parameters, bytes)) return false;
  bytes[2] = bytes[0];
  return true;
}

template <class T>
static int64_t largest(const T* x, int64_t count) {
  int64_t best = 0;
  float top = widened(x[0]);
  for (int64_t i = 1; i < count; ++i) {
    const float value = widened(x[i]);
    const bool beats = !(value <= top) && top == top;
    best = beats ? i : best;
    top = beats ? value : top;
  }
  return best;
}

template <class T>
static void maxout(const Call& call, Threads& threads) {
  const auto& p = call.as<MaxoutCall>();
  const T* __restrict x = call.at<T>(0);
  T* __restrict y = call.at<T>(1);
  by_numbers(threads, p.rows * p.depth, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) y[i] = x[i * p.pieces + largest(x + i * p.pieces, p.pieces)];
  });
}

template <class T>
static void maxout_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<MaxoutCall>();
  const T* __restrict x = call.at<T>(0);
  const T* __restrict dy = call.at<T>(1);
  T* __restrict dx = call.at<T>(2);
  by_numbers(threads, p.rows * p.depth, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      for (int64_t j = 0; j < p.pieces; ++j) dx[i * p.pieces + j] = T{};
      dx[i * p.pieces + largest(x + i * p.pieces, p.pieces)] = dy[i];
    }
  });
}

// Numbers are kept by a hash of (seed, step, stream, place in (N, H, W, C) order): the same for every
// layout and every thread.
struct DropoutCall {
  int64_t images, block, height, width, depth;
  double rate;
  int64_t stream;

  Maps maps() const { return {images, block, height, width, depth}; }
};

template <class T>
static bool dropout_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const DropoutCall*>(parameters);
  if (p.images <= 0 || p.block <= 0 || p.images % p.block || p.height <= 0 || p.width <= 0 || p.depth <= 0 ||
      !(p.rate >= 0.0 && p.rate < 1.0))
    return false;
  bytes[0] = bytes[3] = product(p.maps().size(), kBytes<T>);
  bytes[1] = bytes[2] = 8;
  return true;
}

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

template <class T>
static void dropout(const Call& call, Threads& threads) {
  const auto& p = call.as<DropoutCall>();
  const Maps maps = p.maps();
  const uint64_t seed = *call.at<uint64_t>(1), step = *call.at<uint64_t>(2);
  const uint64_t key = mix(mix(mix(seed) + step) + static_cast<uint64_t>(p.stream));
  const auto least = static_cast<uint64_t>(ceil(p.rate * 16777216.0));
  const float scale = static_cast<float>(1.0 / (1.0 - p.rate));
  constexpr int64_t kNear = 256;
  threads.each(maps.blocks() * maps.height, [&](int64_t task) {
    const int64_t b = task / maps.height, row = task % maps.height;
    for (int64_t column = 0; column < maps.width; ++column)
      for (int64_t i = 0; i < maps.block; ++i) {
        const int64_t at = maps.at(b, row, column) + i * maps.depth;
        const int64_t plain = (((b * maps.block + i) * maps.height + row) * maps.width + column) * maps.depth;
        const T* __restrict x = call.at<T>(0) + at;
        T* __restrict y = call.at<T>(3) + at;
        for (int64_t from = 0; from < maps.depth; from += kNear) {
          const int64_t count = lesser(kNear, maps.depth - from);
          float kept[kNear];
          for (int64_t c = 0; c < count; ++c)
            kept[c] = mix(key + static_cast<uint64_t>(plain + from + c)) >> 40 >= least ? 1.0f : 0.0f;
          by_vectors(count, [&](int64_t c, int width) {
            const Vector scaled = load(x + from + c, width) * Vector::all(scale);
            store(Vector::where_positive(load(kept + c, width), scaled), y + from + c, width);
          });
        }
      }
  });
}
