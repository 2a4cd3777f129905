// The gradient by the weights of Winograd's convolution, in the transformed domain that winograd.h describes:
// a product over all tiles for each of the 36 points, transformed back once.

struct WinogradGradCall {
  ConvCall conv;
  int64_t rows;
  int64_t chunks;  // of the tiles: each makes a partial sum
  int64_t parts;   // of the panels of filters
};

// What a task of the weight gradient works on: the transformed tiles of x and of dy, and the sum so far.
struct WinogradGrad {
  Tiles tiles;
  int64_t panels;  // of a part, at most

  explicit WinogradGrad(const WinogradGradCall& given)
      : tiles(given.conv, given.rows), panels(pieces(pieces(given.conv.filters, kPanel), given.parts)) {}

  int64_t d_panel() const { return tiles.rows() * kPanel; }
  int64_t d_point() const { return panels * d_panel() + 16; }
  int64_t q_point() const { return tiles.p.depth * panels * kPanel; }
  int64_t numbers() const {
    return tiles.x_numbers() + kPoints * (d_point() + q_point()) +
           greater(tiles.p.x().pixel(), tiles.p.y().pixel()) + Vector::kWidth;
  }
};

template <class T>
static bool winograd_weight_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const WinogradGradCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!moderate(given) || !winograd_applies(p) || given.rows <= 0 || given.chunks <= 0 || given.parts <= 0)
    return false;
  bytes[0] = product(p.x().size(), kBytes<T>);
  bytes[1] = product(p.y().size(), kBytes<T>);
  bytes[2] = product(given.chunks, (given.chunks > 1 ? p.weights() : 0) + p.filters, 4);
  bytes[3] = product(p.weights(), 4);
  bytes[4] = p.has_bias ? product(p.filters, 4) : 0;
  return true;
}

template <class T>
static int64_t scratch(const WinogradGradCall& given) {
  return 4 * WinogradGrad(given).numbers();
}

// A dy Aᵀ of tiles first … last - 1 and panels from … to - 1 into d, [point][panel][tile, image][kPanel].
template <class T>
static void transform_gradient(const WinogradGrad& work, const T* dy, const T* outside, int64_t first,
                               int64_t last, int64_t from, int64_t to, float* d) {
  const Tiles& tiles = work.tiles;
  const Maps maps = tiles.p.y();
  for (int64_t tile = first; tile < last; ++tile) {
    const TilePlace place = tiles.place(tile);
    const T* pixel[kTileSide * kTileSide];
    Tiles::pixels<kTileSide>(maps, dy, place.b, place.oy, place.ox, outside, pixel);
    for (int64_t panel = from; panel < to; ++panel) {
      const int64_t width = lesser(kPanel, maps.depth - panel * kPanel);
      for (int64_t image = 0; image < maps.block; ++image)
        for (int64_t c = 0; c < width; c += Vector::kWidth) {
          const int64_t e = image * maps.depth + panel * kPanel + c;
          const int count = static_cast<int>(lesser(Vector::kWidth, width - c));
          float* at =
              d + (panel - from) * work.d_panel() + ((tile - first) * maps.block + image) * kPanel + c;
          both_axes<4, 6>(
              gradient_axis, [&](int i, int j) { return load(pixel[i * 4 + j] + e, count); },
              [&](int i, int j, Vector t) { t.store(at + (i * 6 + j) * work.d_point()); });
        }
    }
  }
}

// Gᵀ q G of panels from … to - 1 into (taps, depth, filters).
static void finish_weights(const WinogradGrad& work, const float* q, int64_t from, int64_t to,
                           float* weight) {
  const ConvCall& p = work.tiles.p;
  for (int64_t k = 0; k < p.depth; ++k)
    for (int64_t panel = from; panel < to; ++panel)
      for (int64_t c = 0; c < lesser(kPanel, p.filters - panel * kPanel); c += Vector::kWidth) {
        const float* at = q + (k * work.panels + panel - from) * kPanel + c;
        float* made = weight + k * p.filters + panel * kPanel + c;
        const int count = static_cast<int>(lesser(Vector::kWidth, p.filters - panel * kPanel - c));
        both_axes<6, 3>(
            filter_gradient_axis,
            [&](int i, int j) { return Vector::load(at + (i * 6 + j) * work.q_point()); },
            [&](int i, int j, Vector w) { store(w, made + (i * 3 + j) * p.depth * p.filters, count); });
      }
}

template <class T>
static void winograd_weight_grad(const Call& call, Threads& threads) {
  const auto& given = call.as<WinogradGradCall>();
  const ConvCall& p = given.conv;
  const WinogradGrad work(given);
  const Tiles& tiles = work.tiles;
  const int64_t panels = pieces(p.filters, kPanel), units = pieces(tiles.count(), tiles.each);
  float* partial_bias = call.at<float>(2);
  float* weight = call.at<float>(3);
  float* bias = p.has_bias ? call.at<float>(4) : nullptr;
  float* partial = given.chunks > 1 ? partial_bias + given.chunks * p.filters : weight;
  threads.each_worker(given.chunks * given.parts, [&](int64_t task, int worker) {
    const int64_t chunk = task / given.parts, part = task % given.parts;
    const int64_t from = panels * part / given.parts, to = panels * (part + 1) / given.parts;
    float* v = static_cast<float*>(threads.scratch(worker));
    float* d = v + tiles.x_numbers();
    float* q = d + kPoints * work.d_point();
    T* outside = reinterpret_cast<T*>(q + kPoints * work.q_point());
    for (int64_t i = 0; i < greater(p.x().pixel(), p.y().pixel()) + Vector::kWidth; ++i)
      put(outside + i, 0.0f);
    for (int64_t i = 0; i < kPoints * work.q_point(); ++i) q[i] = 0.0f;
    float sums[kPanel];
    for (int64_t k = from * kPanel; bias && k < lesser(p.filters, to * kPanel); ++k)
      partial_bias[chunk * p.filters + k] = 0.0f;
    for (int64_t unit = units * chunk / given.chunks; unit < units * (chunk + 1) / given.chunks; ++unit) {
      const int64_t first = unit * tiles.each, last = lesser(tiles.count(), first + tiles.each);
      tiles.transform_input(call.at<T>(0), outside, first, last, v);
      transform_gradient(work, call.at<T>(1), outside, first, last, from, to, d);
      for (int64_t point = 0; point < kPoints; ++point)
        for (int64_t panel = from; panel < to; ++panel) {
          const float* a = v + point * tiles.x_point();
          const float* b = d + point * work.d_point() + (panel - from) * work.d_panel();
          Brgemm<float> g{};
          g.a = &a;
          g.b = &b;
          g.count = 1;
          g.rows = p.depth;
          g.columns = lesser(kPanel, p.filters - panel * kPanel);
          g.inner = (last - first) * p.block;
          g.row_step = 1;
          g.inner_step = whole_vectors(p.depth);
          g.b_step = kPanel;
          g.c = q + point * work.q_point() + (panel - from) * kPanel;
          g.c_step = work.panels * kPanel;
          g.accumulate = true;
          brgemm(g);
        }
      // At the point (1, 1) a transformed tile of dy is the sum of its numbers.
      for (int64_t panel = from; bias && panel < to; ++panel) {
        const float* tile_sums = d + (kTileReach + 1) * work.d_point() + (panel - from) * work.d_panel();
        const int64_t width = lesser(kPanel, p.filters - panel * kPanel);
        for (int64_t k = 0; k < width; ++k) sums[k] = 0.0f;
        for (int64_t row = 0; row < (last - first) * p.block; ++row)
          for (int64_t k = 0; k < width; ++k) sums[k] += tile_sums[row * kPanel + k];
        for (int64_t k = 0; k < width; ++k) partial_bias[chunk * p.filters + panel * kPanel + k] += sums[k];
      }
    }
    finish_weights(work, q, from, to, partial + chunk * p.weights());
  });
  if (given.chunks > 1) add_partial_sums(partial, given.chunks, p.weights(), weight, threads);
  if (bias) add_partial_sums(partial_bias, given.chunks, p.filters, bias, threads);
}
