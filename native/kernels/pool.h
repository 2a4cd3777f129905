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

// Where the pixels lie that one window reads, or the windows that read one pixel, each with a number: its
// position in the window or its share.
struct Taps {
  static constexpr int64_t kMost = 64;
  int64_t at[kMost];
  float number[kMost];
  int64_t count = 0;

  // Whether there is room for more.
  bool add(int64_t place, float value) {
    at[count] = place;
    number[count] = value;
    return ++count < kMost;
  }
};

template <class Index>
static Vector load_index(const Index* p, int width) {
  if (width == Vector::kWidth) return Vector::load(p);
  Index lanes[Vector::kWidth] = {};
  for (int e = 0; e < width; ++e) lanes[e] = p[e];
  return Vector::load(lanes);
}

template <class Index>
static void store_index(Vector position, Index* index, int width) {
  float lanes[Vector::kWidth];
  position.store(lanes);
  if (width == Vector::kWidth)
    for (int e = 0; e < Vector::kWidth; ++e) index[e] = static_cast<Index>(static_cast<int>(lanes[e]));
  else
    for (int e = 0; e < width; ++e) index[e] = static_cast<Index>(static_cast<int>(lanes[e]));
}

// The largest number of a window, and where it was, for `width` neighbouring places: positions are floats,
// so that one comparison chooses both, and 65536 positions are exact. NaN wins over every number, and the
// first of equals over the later. `started` goes on from what y and index hold.
template <class T, class Index>
static void largest_of(const Taps& taps, const T* x, int width, bool started, T* y, Index* index) {
  Vector best = started ? load(y, width) : load(x + taps.at[0], width);
  Vector position = started ? load_index(index, width) : Vector::all(taps.number[0]);
  for (int64_t t = started ? 0 : 1; t < taps.count; ++t) {
    const Vector next = load(x + taps.at[t], width);
    position = Vector::where_beats(next, best, Vector::all(taps.number[t]), position);
    best = Vector::where_beats(next, best, next, best);
  }
  store(best, y, width);
  store_index(position, index, width);
}

template <class T, class Index>
static void max_pool_of(const Call& call, Threads& threads) {
  const auto& p = call.as<PoolCall>();
  const Maps from = p.x(), to = p.y();
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, oy = task % to.height;
    for (int64_t ox = 0; ox < to.width; ++ox) {
      const T* x = call.at<T>(0);
      T* y = call.at<T>(1) + to.at(b, oy, ox);
      Index* index = call.at<Index>(2) + to.at(b, oy, ox);
      Taps taps;
      bool started = false;
      const auto flush = [&] {
        by_vectors(from.pixel(),
                   [&](int64_t e, int width) { largest_of(taps, x + e, width, started, y + e, index + e); });
        started = true;
        taps.count = 0;
      };
      pixels_under(p, oy, ox, [&](int64_t iy, int64_t ix, int64_t position) {
        if (!taps.add(from.at(b, iy, ix), static_cast<float>(position))) flush();
      });
      if (taps.count > 0) flush();
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
  int64_t gate_is_y;  // not x: where the largest of a window is not positive, all of it is closed
};

template <class T>
static bool max_pool_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const MaxPoolGradCall*>(parameters);
  if (!p.pool.sensible()) return false;
  bytes[0] = product(p.pool.y().size(), kBytes<T>);
  bytes[1] = p.pool.y().size() * (p.pool.wide ? 2 : 1);
  bytes[3] = product(p.pool.x().size(), kBytes<T>);
  bytes[2] = p.has_gate ? bytes[p.gate_is_y ? 0 : 3] : 0;
  return true;
}

// Adds up what term makes of the taps, for kVectors vectors from `e` on, and gives the sums to use. They go
// on from `waiting`, or start at `start` where that is null.
template <int kVectors, class Term, class Use>
static void add_taps(const Taps& taps, const float* waiting, float start, int64_t e, int width,
                     const Term& term, const Use& use) {
  Vector sums[kVectors];
  for (int v = 0; v < kVectors; ++v)
    sums[v] = waiting ? load(waiting + e + v * Vector::kWidth, width) : Vector::all(start);
  for (int64_t t = 0; t < taps.count; ++t)
    for (int v = 0; v < kVectors; ++v)
      sums[v] = sums[v] + term(taps.at[t] + e + v * Vector::kWidth, taps.number[t], width);
  for (int v = 0; v < kVectors; ++v) use(e + v * Vector::kWidth, sums[v], width);
}

// Sums over taps, of all numbers of a pixel: taps_of(visit) calls visit(place, number) for each tap,
// term(place, number, width) is what it adds, finish(e, sum, width) gets the sums. They start at `start`;
// a sum of none is 0. Where there are more taps than a list holds, sums wait in memory, still in float.
template <class TapsOf, class Term, class Finish>
static void sum_taps(int64_t pixel, float start, const TapsOf& taps_of, const Term& term,
                     const Finish& finish) {
  constexpr int64_t kNear = 1024;
  float sums[kNear];
  for (int64_t first = 0; first < pixel; first += kNear) {
    Taps taps;
    const float* waiting = nullptr;
    const int64_t count = lesser(kNear, pixel - first);
    const auto here = [&](int64_t at, float number, int width) { return term(at + first, number, width); };
    const auto add_up = [&](const auto& use) {
      const float from = taps.count > 0 ? start : 0.0f;
      int64_t e = 0;
      for (; e + kWide <= count; e += kWide)
        add_taps<kGroup>(taps, waiting, from, e, Vector::kWidth, here, use);
      by_vectors(count - e, [&](int64_t rest, int width) {
        add_taps<1>(taps, waiting, from, e + rest, width, here, use);
      });
    };
    taps_of([&](int64_t place, float number) {
      if (taps.add(place, number)) return;
      add_up([&](int64_t e, Vector sum, int width) { store(sum, sums + e, width); });
      waiting = sums;
      taps.count = 0;
    });
    add_up([&](int64_t e, Vector sum, int width) { finish(first + e, sum, width); });
  }
}

// Each input row gathers from the windows that read it, so no two tasks write the same number.
template <class T, class Index>
static void max_pool_grad_of(const Call& call, Threads& threads) {
  const auto& p = call.as<MaxPoolGradCall>().pool;
  const Maps to = p.x(), from = p.y();
  const T* dy = call.at<T>(0);
  const Index* index = call.at<Index>(1);
  const T* gate = call.as<MaxPoolGradCall>().has_gate ? call.at<T>(2) : nullptr;
  const bool behind = call.as<MaxPoolGradCall>().gate_is_y != 0;
  const T* y_gate = behind ? gate : nullptr;
  const T* gates = behind ? nullptr : gate;
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, iy = task % to.height;
    for (int64_t ix = 0; ix < to.width; ++ix) {
      const int64_t pixel = to.at(b, iy, ix);
      T* dx = call.at<T>(3) + pixel;
      sum_taps(
          from.pixel(), -0.0f,
          [&](const auto& visit) {
            windows_over(p, iy, ix, [&](int64_t oy, int64_t ox, int64_t position) {
              visit(from.at(b, oy, ox), static_cast<float>(position));
            });
          },
          [&](int64_t at, float position, int width) {
            const Vector given = load(dy + at, width);
            const Vector open = y_gate ? Vector::where_positive(load(y_gate + at, width), given) : given;
            return Vector::where_equal(load_index(index + at, width), Vector::all(position), open);
          },
          [&](int64_t e, Vector sum, int width) {
            store(gates ? Vector::where_positive(load(gates + pixel + e, width), sum) : sum, dx + e, width);
          });
    }
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
  const T* x = call.at<T>(0);
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, oy = task % to.height;
    for (int64_t ox = 0; ox < to.width; ++ox) {
      T* y = call.at<T>(1) + to.at(b, oy, ox);
      const Vector share = Vector::all(share_of(p, oy, ox));
      sum_taps(
          from.pixel(), 0.0f,
          [&](const auto& visit) {
            pixels_under(p, oy, ox,
                         [&](int64_t iy, int64_t ix, int64_t) { visit(from.at(b, iy, ix), 1.0f); });
          },
          [&](int64_t at, float, int width) { return load(x + at, width); },
          [&](int64_t e, Vector sum, int width) { store(sum * share, y + e, width); });
    }
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
  const T* dy = call.at<T>(0);
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, iy = task % to.height;
    for (int64_t ix = 0; ix < to.width; ++ix) {
      T* dx = call.at<T>(1) + to.at(b, iy, ix);
      sum_taps(
          from.pixel(), 0.0f,
          [&](const auto& visit) {
            windows_over(p, iy, ix, [&](int64_t oy, int64_t ox, int64_t) {
              visit(from.at(b, oy, ox), share_of(p, oy, ox));
            });
          },
          [&](int64_t at, float share, int width) { return load(dy + at, width) * Vector::all(share); },
          [&](int64_t e, Vector sum, int width) { store(sum, dx + e, width); });
    }
  });
}
