// Arrays as people have them, (N, H, W, C), to maps in blocks of images, and back; and channels copied
// from map to map where branches meet or part.

struct LayoutCall {
  int64_t images, block, height, width, depth;

  Maps maps() const { return {images, block, height, width, depth}; }
  bool sensible() const {
    return moderate(*this) && images > 0 && block > 0 && images % block == 0 && height > 0 && width > 0 &&
           depth > 0;
  }
};

template <class From, class To>
static bool layout_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const LayoutCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.maps().size(), kBytes<From>);
  bytes[1] = product(p.maps().size(), kBytes<To>);
  return true;
}

template <bool kIn, class From, class To>
static void change_layout(const Call& call, Threads& threads) {
  const auto& p = call.as<LayoutCall>();
  const Maps maps = p.maps();
  const From* from = call.at<From>(0);
  To* to = call.at<To>(1);
  threads.each(maps.blocks() * maps.height, [&](int64_t task) {
    const int64_t b = task / maps.height, y = task % maps.height;
    for (int64_t i = 0; i < maps.block; ++i) {
      const int64_t plain = ((b * maps.block + i) * maps.height + y) * maps.width * maps.depth;
      for (int64_t x = 0; x < maps.width; ++x) {
        const int64_t at = maps.at(b, y, x) + i * maps.depth;
        const From* __restrict source = from + (kIn ? plain + x * maps.depth : at);
        To* __restrict target = to + (kIn ? at : plain + x * maps.depth);
        for (int64_t c = 0; c < maps.depth; ++c) put(target + c, widened(source[c]));
      }
    }
  });
}

template <class T>
static bool pack_maps_sizes(const void* parameters, int64_t* bytes) {
  return layout_sizes<float, T>(parameters, bytes);
}

template <class T>
static void pack_maps(const Call& call, Threads& threads) {
  change_layout<true, float, T>(call, threads);
}

template <class T>
static bool unpack_maps_sizes(const void* parameters, int64_t* bytes) {
  return layout_sizes<T, float>(parameters, bytes);
}

template <class T>
static void unpack_maps(const Call& call, Threads& threads) {
  change_layout<false, T, float>(call, threads);
}

struct CopyChannelsCall {
  int64_t rows, depth, from_depth, from_at, to_depth, to_at;
};

template <class T>
static bool copy_channels_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const CopyChannelsCall*>(parameters);
  if (!moderate(p) || p.rows <= 0 || p.depth <= 0 || p.from_at < 0 || p.to_at < 0) return false;
  if (p.from_at + p.depth > p.from_depth || p.to_at + p.depth > p.to_depth) return false;
  bytes[0] = product(p.rows, p.from_depth, kBytes<T>);
  bytes[1] = product(p.rows, p.to_depth, kBytes<T>);
  return true;
}

template <class T>
static void copy_channels(const Call& call, Threads& threads) {
  const auto& p = call.as<CopyChannelsCall>();
  const T* __restrict from = call.at<T>(0) + p.from_at;
  T* __restrict to = call.at<T>(1) + p.to_at;
  by_rows(threads, p.rows, p.depth, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      memcpy(to + row * p.to_depth, from + row * p.from_depth, static_cast<size_t>(p.depth * kBytes<T>));
  });
}

struct SizeCall {
  int64_t size;
};

static bool widen_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const SizeCall*>(parameters);
  if (p.size <= 0) return false;
  bytes[0] = product(p.size, 2);
  bytes[1] = product(p.size, 4);
  return true;
}

// bfloat16 numbers as floats, in the same order.
static void widen(const Call& call, Threads& threads) {
  const Bfloat16* __restrict x = call.at<Bfloat16>(0);
  float* __restrict y = call.at<float>(1);
  by_numbers(threads, call.as<SizeCall>().size, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) y[i] = widened(x[i]);
  });
}
