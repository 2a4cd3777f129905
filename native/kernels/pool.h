// Pooling. Windows move over whole pixels (block × depth matrices), so every inner loop is contiguous.

struct PoolCall {
  int64_t images, block, height, width, depth;
  int64_t out_height, out_width;
  int64_t rows, columns, stride_y, stride_x;
  int64_t top, bottom, left, right;
  int64_t wide;  // positions take two bytes, because a window has more than 256

  Maps x() const { return {images, block, height, width, depth}; }
  Maps y() const { return {images, block, out_height, out_width, depth}; }
  bool sensible() const {
    return moderate(*this) && images > 0 && block > 0 && images % block == 0 && height > 0 && width > 0 &&
           depth > 0 && out_height > 0 && out_width > 0 && rows > 0 && columns > 0 && stride_y > 0 &&
           stride_x > 0 && top >= 0 && bottom >= 0 && left >= 0 && right >= 0 && top < rows &&
           left < columns && (out_height - 1) * stride_y < height + top &&
           (out_width - 1) * stride_x < width + left && product(rows, columns) <= (wide ? 65536 : 256);
  }
};

template <class T>
static bool max_pool_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PoolCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.x().size(), kBytes<T>);
  bytes[1] = product(p.y().size(), kBytes<T>);
  bytes[2] = p.y().size() * (p.wide ? 2 : 1);
  return true;
}

// Calls visit(iy, ix, position) for every pixel of the input that the window at (oy, ox) reads.
template <class Visit>
static void pixels_under(const PoolCall& p, int64_t oy, int64_t ox, const Visit& visit) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const int64_t iy = oy * p.stride_y + r - p.top;
    if (iy < 0 || iy >= p.height) continue;
    for (int64_t s = 0; s < p.columns; ++s) {
      const int64_t ix = ox * p.stride_x + s - p.left;
      if (ix >= 0 && ix < p.width) visit(iy, ix, r * p.columns + s);
    }
  }
}

// Calls visit(oy, ox, position) for every window that reads the pixel (iy, ix) of the input.
template <class Visit>
static void windows_over(const PoolCall& p, int64_t iy, int64_t ix, const Visit& visit) {
  for (int64_t r = (iy + p.top) % p.stride_y; r < p.rows && r <= iy + p.top; r += p.stride_y) {
    const int64_t oy = (iy + p.top - r) / p.stride_y;
    if (oy >= p.out_height) continue;
    for (int64_t s = (ix + p.left) % p.stride_x; s < p.columns && s <= ix + p.left; s += p.stride_x) {
      const int64_t ox = (ix + p.left - s) / p.stride_x;
      if (ox < p.out_width) visit(oy, ox, r * p.columns + s);
    }
  }
}

// The pixels of the input that one window reads, and their positions in it, as floats: both are then
// chosen by one comparison, and 65536 positions are exact.
template <class T>
struct Window {
  static constexpr int64_t kMost = 64;
  const T* pixels[kMost];
  float positions[kMost];
  int64_t count;
};

// The largest number of a window, and where it was, for `width` neighbouring places. NaN wins over every
// number, and the first of equals over the later. `started` goes on from what y and index hold.
template <class T, class Index>
static void largest_of(const Window<T>& window, int64_t at, int width, bool started, T* y, Index* index) {
  float lanes[Vector::kWidth];
  Vector best, position;
  if (started) {
    for (int e = 0; e < width; ++e) lanes[e] = static_cast<float>(index[e]);
    best = Vector::load(y, width);
    position = Vector::load(lanes, width);
  } else {
    best = Vector::load(window.pixels[0] + at, width);
    position = Vector::all(window.positions[0]);
  }
  for (int64_t t = started ? 0 : 1; t < window.count; ++t) {
    const Vector x = Vector::load(window.pixels[t] + at, width);
    position = Vector::where_beats(x, best, Vector::all(window.positions[t]), position);
    best = Vector::where_beats(x, best, x, best);
  }
  best.store(y, width);
  position.store(lanes);
  if (width == Vector::kWidth)
    for (int e = 0; e < Vector::kWidth; ++e) index[e] = static_cast<Index>(static_cast<int>(lanes[e]));
  else
    for (int e = 0; e < width; ++e) index[e] = static_cast<Index>(static_cast<int>(lanes[e]));
}

template <class T, class Index>
static void max_pool_of(const Call& call, Threads& threads) {
  const auto& p = call.as<PoolCall>();
  const Maps from = p.x(), to = p.y();
  const int64_t pixel = from.pixel();
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, oy = task % to.height;
    for (int64_t ox = 0; ox < to.width; ++ox) {
      T* y = call.at<T>(1) + to.at(b, oy, ox);
      Index* index = call.at<Index>(2) + to.at(b, oy, ox);
      Window<T> window{};
      bool started = false;
      const auto flush = [&] {
        int64_t at = 0;
        for (; at + Vector::kWidth <= pixel; at += Vector::kWidth)
          largest_of(window, at, Vector::kWidth, started, y + at, index + at);
        if (at < pixel) largest_of(window, at, static_cast<int>(pixel - at), started, y + at, index + at);
        started = true;
        window.count = 0;
      };
      pixels_under(p, oy, ox, [&](int64_t iy, int64_t ix, int64_t position) {
        window.pixels[window.count] = call.at<T>(0) + from.at(b, iy, ix);
        window.positions[window.count] = static_cast<float>(position);
        if (++window.count == Window<T>::kMost) flush();
      });
      if (window.count > 0) flush();
    }
  });
}

template <class T>
static void max_pool(const Call& call, Threads& threads) {
  if (call.as<PoolCall>().wide)
    max_pool_of<T, uint16_t>(call, threads);
  else
    max_pool_of<T, uint8_t>(call, threads);
}

struct MaxPoolGradCall {
  PoolCall pool;
  int64_t has_gate;
};

template <class T>
static bool max_pool_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const MaxPoolGradCall*>(parameters);
  if (!p.pool.sensible()) return false;
  bytes[0] = product(p.pool.y().size(), kBytes<T>);
  bytes[1] = p.pool.y().size() * (p.pool.wide ? 2 : 1);
  bytes[3] = product(p.pool.x().size(), kBytes<T>);
  bytes[2] = p.has_gate ? bytes[3] : 0;
  return true;
}

// Sums of so many neighbouring numbers are made at a time, in float: they stay near the core.
constexpr int64_t kNearNumbers = 1024;

// Calls work(at, count, sums) for runs of the `pixel` numbers of a pixel.
template <class Work>
static void by_near_numbers(int64_t pixel, const Work& work) {
  float sums[kNearNumbers];
  for (int64_t at = 0; at < pixel; at += kNearNumbers) work(at, lesser(kNearNumbers, pixel - at), sums);
}

// Each input row gathers from the windows that read it, so no two tasks write the same number.
template <class T, class Index>
static void max_pool_grad_of(const Call& call, Threads& threads) {
  const auto& p = call.as<MaxPoolGradCall>().pool;
  const Maps to = p.x(), from = p.y();
  const T* gates = call.as<MaxPoolGradCall>().has_gate ? call.at<T>(2) : nullptr;
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, iy = task % to.height;
    for (int64_t ix = 0; ix < to.width; ++ix)
      by_near_numbers(from.pixel(), [&](int64_t at, int64_t count, float* __restrict sums) {
        bool started = false;
        windows_over(p, iy, ix, [&](int64_t oy, int64_t ox, int64_t position) {
          const T* __restrict dy = call.at<T>(0) + from.at(b, oy, ox) + at;
          const Index* __restrict index = call.at<Index>(1) + from.at(b, oy, ox) + at;
          const Index here = static_cast<Index>(position);
          for (int64_t e = 0; e < count; ++e) {
            const float given = widened(dy[e]), mine = index[e] == here ? given : 0.0f;
            sums[e] = started ? sums[e] + mine : mine;
          }
          started = true;
        });
        T* __restrict dx = call.at<T>(3) + to.at(b, iy, ix) + at;
        if (!started) {
          for (int64_t e = 0; e < count; ++e) dx[e] = T{};
        } else if (gates) {
          const T* __restrict gate = gates + to.at(b, iy, ix) + at;
          for (int64_t e = 0; e < count; ++e) {
            const float open = sums[e];
            put(dx + e, widened(gate[e]) <= 0.0f ? 0.0f : open);
          }
        } else {
          for (int64_t e = 0; e < count; ++e) put(dx + e, sums[e]);
        }
      });
  });
}

template <class T>
static void max_pool_grad(const Call& call, Threads& threads) {
  if (call.as<MaxPoolGradCall>().pool.wide)
    max_pool_grad_of<T, uint16_t>(call, threads);
  else
    max_pool_grad_of<T, uint8_t>(call, threads);
}

template <class T>
static bool average_pool_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PoolCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.x().size(), kBytes<T>);
  bytes[1] = product(p.y().size(), kBytes<T>);
  return true;
}

// Padded zeros count in the average; what lies beyond the padding does not.
static float share_of(const PoolCall& p, int64_t oy, int64_t ox) {
  const int64_t rows = lesser(p.rows, p.height + p.top + p.bottom - oy * p.stride_y);
  const int64_t columns = lesser(p.columns, p.width + p.left + p.right - ox * p.stride_x);
  return 1.0f / static_cast<float>(rows * columns);
}

template <class T>
static void average_pool(const Call& call, Threads& threads) {
  const auto& p = call.as<PoolCall>();
  const Maps from = p.x(), to = p.y();
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, oy = task % to.height;
    for (int64_t ox = 0; ox < to.width; ++ox)
      by_near_numbers(from.pixel(), [&](int64_t at, int64_t count, float* __restrict sums) {
        for (int64_t e = 0; e < count; ++e) sums[e] = 0.0f;
        pixels_under(p, oy, ox, [&](int64_t iy, int64_t ix, int64_t) {
          const T* __restrict x = call.at<T>(0) + from.at(b, iy, ix) + at;
          for (int64_t e = 0; e < count; ++e) sums[e] += widened(x[e]);
        });
        const float share = share_of(p, oy, ox);
        T* __restrict y = call.at<T>(1) + to.at(b, oy, ox) + at;
        for (int64_t e = 0; e < count; ++e) put(y + e, sums[e] * share);
      });
  });
}

template <class T>
static bool average_pool_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PoolCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.y().size(), kBytes<T>);
  bytes[1] = product(p.x().size(), kBytes<T>);
  return true;
}

template <class T>
static void average_pool_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<PoolCall>();
  const Maps to = p.x(), from = p.y();
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, iy = task % to.height;
    for (int64_t ix = 0; ix < to.width; ++ix)
      by_near_numbers(from.pixel(), [&](int64_t at, int64_t count, float* __restrict sums) {
        for (int64_t e = 0; e < count; ++e) sums[e] = 0.0f;
        windows_over(p, iy, ix, [&](int64_t oy, int64_t ox, int64_t) {
          const T* __restrict dy = call.at<T>(0) + from.at(b, oy, ox) + at;
          const float share = share_of(p, oy, ox);
          for (int64_t e = 0; e < count; ++e) sums[e] += widened(dy[e]) * share;
        });
        T* __restrict dx = call.at<T>(1) + to.at(b, iy, ix) + at;
        for (int64_t e = 0; e < count; ++e) put(dx + e, sums[e]);
      });
  });
}
