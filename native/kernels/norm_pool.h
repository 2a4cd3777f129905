// Batch normalisation with the 2×2 max pooling behind it, in one pass: what lies between is never written.
// The gradient needs of every window only the number of x that became its largest, the peak.

struct BatchNormPoolCall {
  LayoutCall maps;  // of x; a row or a column that is left over belongs to no window
  double epsilon, momentum;
  int64_t update, relu;
  int64_t has_peak;
  int64_t parts;  // as in BatchNormCall

  BatchNormCall norm() const {
    const int64_t rows = product(maps.images, maps.height, maps.width);
    return {rows, maps.depth, epsilon, momentum, update, relu, 0, parts};
  }
};

static Maps halves(const Maps& x) { return {x.images, x.block, x.height / 2, x.width / 2, x.depth}; }

static bool pooled_sizes(const LayoutCall& maps, int64_t each, int64_t* x, int64_t* y) {
  if (!maps.sensible() || maps.height < 2 || maps.width < 2) return false;
  *x = product(maps.maps().size(), each);
  *y = product(halves(maps.maps()).size(), each);
  return true;
}

template <class T>
static bool batch_norm_pool_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormPoolCall*>(parameters);
  if (!pooled_sizes(p.maps, kBytes<T>, &bytes[0], &bytes[6])) return false;
  if (p.parts < 0 || !(p.epsilon >= 0.0)) return false;
  bytes[1] = bytes[2] = bytes[8] = bytes[9] = product(p.maps.depth, 4);
  bytes[3] = product(p.parts, 3, p.maps.depth, 8);
  bytes[4] = bytes[5] = p.update ? product(p.maps.depth, 4) : 0;
  bytes[7] = p.has_peak ? bytes[6] : 0;
  bytes[10] = product(partial_sums(p.norm().rows, p.maps.depth) * 2 + 2, p.maps.depth, 8);
  return true;
}

// Calls visit(e, c, width) for every vector of a pixel: where it lies there, and its first channel.
template <class Visit>
static void channels_of(const Maps& maps, const Visit& visit) {
  for (int64_t image = 0; image < maps.block; ++image)
    by_vectors(maps.depth, [&](int64_t c, int width) { visit(image * maps.depth + c, c, width); });
}

// y = the largest of relu(normalised x) of every window, and the x that it was made of
template <class T, bool kRelu>
static void normalise_windows(const Normal& normal, const Maps& from, const T* x, T* y, T* peak,
                              Threads& threads) {
  const Maps to = halves(from);
  threads.each(to.blocks() * to.height, [&](int64_t task) {
    const int64_t b = task / to.height, oy = task % to.height;
    for (int64_t ox = 0; ox < to.width; ++ox) {
      const T* above = x + from.at(b, 2 * oy, 2 * ox);
      const T* pixels[4] = {above, above + from.pixel(), above + from.row(),
                            above + from.row() + from.pixel()};
      const int64_t at = to.at(b, oy, ox);
      channels_of(to, [&](int64_t e, int64_t c, int width) {
        const Normal::Channels of = normal.channels(c, width);
        Vector best = Vector::zero(), best_x = Vector::zero();
        for (int t = 0; t < 4; ++t) {
          const Vector given = load(pixels[t] + e, width), next = of.of(given);
          const Vector made = kRelu ? Vector::positive(next) : next;
          best_x = t > 0 ? Vector::where_beats(made, best, given, best_x) : given;
          best = t > 0 ? Vector::where_beats(made, best, made, best) : made;
        }
        store(best, y + at + e, width);
        if (peak) store(best_x, peak + at + e, width);
      });
    }
  });
}

template <class T>
static void batch_norm_pool(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormPoolCall>();
  const T* x = call.at<T>(0);
  const Statistics made{call.at<double>(3), call.at<float>(4), call.at<float>(5),
                        call.at<float>(8),  call.at<float>(9), call.at<double>(10)};
  statistics_of(x, p.norm(), made, threads);
  const Normal normal{made.mean, made.inverse, call.at<float>(1), call.at<float>(2)};
  T* peak = p.has_peak ? call.at<T>(7) : nullptr;
  if (p.relu)
    normalise_windows<T, true>(normal, p.maps.maps(), x, call.at<T>(6), peak, threads);
  else
    normalise_windows<T, false>(normal, p.maps.maps(), x, call.at<T>(6), peak, threads);
}

struct BatchNormPoolGradCall {
  LayoutCall maps;
  int64_t relu;
};

template <class T>
static bool batch_norm_pool_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const BatchNormPoolGradCall*>(parameters);
  if (!pooled_sizes(p.maps, kBytes<T>, &bytes[0], &bytes[1])) return false;
  bytes[2] = bytes[1];
  bytes[3] = bytes[4] = bytes[5] = bytes[6] = bytes[8] = bytes[9] = product(p.maps.depth, 4);
  bytes[7] = bytes[0];
  const Maps y = halves(p.maps.maps());
  const int64_t rows = product(y.images, y.height, y.width);
  bytes[10] = product(partial_sums(rows, y.depth) * 2 + 2, y.depth, 8);
  return true;
}

// dx of every pixel: the first of a window that equals the peak gets the dy, the others none.
template <class T, bool kRelu>
static void window_gradients(const Slope& slope, const Maps& to, const T* x, const T* peak,
                             const Gated<T, kRelu>& dy, T* dx, Threads& threads) {
  const Maps from = halves(to);
  const int64_t down = pieces(to.height, 2), along = pieces(to.width, 2);
  threads.each(to.blocks() * down, [&](int64_t task) {
    const int64_t b = task / down, oy = task % down;
    for (int64_t ox = 0; ox < along; ++ox) {
      int64_t pixels[4], count = 0;
      for (int64_t iy = 2 * oy; iy < lesser(to.height, 2 * oy + 2); ++iy)
        for (int64_t ix = 2 * ox; ix < lesser(to.width, 2 * ox + 2); ++ix) pixels[count++] = to.at(b, iy, ix);
      const bool whole = oy < from.height && ox < from.width;
      const int64_t at = whole ? from.at(b, oy, ox) : 0;
      channels_of(to, [&](int64_t e, int64_t c, int width) {
        const Slope::Channels of = slope.channels(c, width);
        const Vector highest = whole ? load(peak + at + e, width) : Vector::zero();
        Vector left = whole ? dy.at(at + e, width, highest, of.normal) : Vector::zero();
        for (int64_t t = 0; t < count; ++t) {
          const Vector given = load(x + pixels[t] + e, width);
          const Vector taken = Vector::where_equal(given, highest, left);
          left = left - taken;
          store(of.of(given, taken), dx + pixels[t] + e, width);
        }
      });
    }
  });
}

template <class T, bool kRelu>
static void batch_norm_pool_grad_of(const Call& call, Threads& threads) {
  const auto& p = call.as<BatchNormPoolGradCall>();
  const Maps maps = p.maps.maps(), pooled = halves(maps);
  const T* peak = call.at<T>(1);
  const Gated<T, kRelu> dy{call.at<T>(2)};
  const Normal normal{call.at<float>(5), call.at<float>(6), call.at<float>(3), call.at<float>(4)};
  float* dweight = call.at<float>(8);
  float* dbias = call.at<float>(9);
  norm_parameter_grads(normal, peak, dy, pooled.images * pooled.height * pooled.width, maps.depth, dweight,
                       dbias, call.at<double>(10), threads);
  const float share = 1.0f / static_cast<float>(maps.images * maps.height * maps.width);
  window_gradients(Slope{normal, dweight, dbias, share}, maps, call.at<T>(0), peak, dy, call.at<T>(7),
                   threads);
}

template <class T>
static void batch_norm_pool_grad(const Call& call, Threads& threads) {
  if (call.as<BatchNormPoolGradCall>().relu)
    batch_norm_pool_grad_of<T, true>(call, threads);
  else
    batch_norm_pool_grad_of<T, false>(call, threads);
}
