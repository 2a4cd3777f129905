// Convolution by 3×3 filters with stride 1 after Winograd: F(4×4, 3×3) of Lavin and Gray, "Fast Algorithms
// for Convolutional Neural Networks", 2016. A 6×6 tile of x becomes 36 numbers, the filter becomes 36
// numbers, and 36 products of matrices (tiles × depth by depth × filters) give 4×4 outputs each: 36
// multiplications where the direct sum has 144. In this layout every number of a tile is a pixel of
// block × depth numbers, so the transforms are sums of whole vectors.
//
//   y  = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A                 dx the same, from dy and the filters turned round
//   dw = Gᵀ [Σ over tiles (Bᵀ x B) ⊙ (A dy Aᵀ)] G
//
// How far rounding may move y: with u = 2⁻²⁴, the unit roundoff, and n the most roundings that one number
// meets on its way, by at most
//
//   n·u / (1 - n·u) · |Aᵀ| [(|G||w||Gᵀ|) ⊙ (|Bᵀ||x||B|)] |A|,   n = depth + 21
//
// (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, lemma 3.1): 6 in Bᵀ x B, 8 in G w Gᵀ with
// its constants, which are no binary fractions, depth in the products and their sums, 6 in Aᵀ m A and 1 for
// the bias. No term cancels on the way but as in these matrices, so their magnitudes bound every sum in
// between. For dw it is |Gᵀ| [Σ (|Bᵀ||x||B|) ⊙ (|A||dy||Aᵀ|)] |G| with the number of tiles in all images for
// the depth: 6 in Bᵀ x B, 4 in A dy Aᵀ, 10 in Gᵀ q G, one for each tile and each partial sum. Measured, 64
// channels of numbers between -1 and 1: the largest error is 6·10⁻⁶ of the largest output; the selftest holds
// it below 2·10⁻⁵.
//
// A number of x that is infinite or none may reach all of its tile's outputs, not just those of its windows.

constexpr int64_t kTileSide = 4;                      // outputs of a tile, along either axis
constexpr int64_t kTileReach = 6;                     // inputs that they read
constexpr int64_t kPoints = kTileReach * kTileReach;  // products of a tile

static Vector times(float factor, Vector x, Vector plus) {
  return Vector::multiply_add(Vector::all(factor), x, plus);
}

// Bᵀd along one axis.
static void input_axis(const Vector (&d)[6], Vector (&t)[6]) {
  const Vector a = times(-4.0f, d[2], d[4]), b = times(-4.0f, d[1], d[3]);
  const Vector c = d[4] - d[2], e = d[3] - d[1];
  t[0] = times(4.0f, d[0], times(-5.0f, d[2], d[4]));
  t[1] = a + b;
  t[2] = a - b;
  t[3] = times(2.0f, e, c);
  t[4] = times(-2.0f, e, c);
  t[5] = times(4.0f, d[1], times(-5.0f, d[3], d[5]));
}

// Aᵀm along one axis.
static void output_axis(const Vector (&m)[6], Vector (&y)[4]) {
  const Vector s = m[1] + m[2], d = m[1] - m[2], far_s = m[3] + m[4], far_d = m[3] - m[4];
  y[0] = (m[0] + s) + far_s;
  y[1] = times(2.0f, far_d, d);
  y[2] = times(4.0f, far_s, s);
  y[3] = times(8.0f, far_d, d) + m[5];
}

// Ay along one axis.
static void gradient_axis(const Vector (&y)[4], Vector (&t)[6]) {
  const Vector even = y[0] + y[2], odd = y[1] + y[3];
  const Vector far_even = times(4.0f, y[2], y[0]), far_odd = times(8.0f, y[3], y[1] + y[1]);
  t[0] = y[0];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = far_even + far_odd;
  t[4] = far_even - far_odd;
  t[5] = y[3];
}

// Gw along one axis.
static void filter_axis(const Vector (&w)[3], Vector (&u)[6]) {
  const Vector outer = w[0] + w[2], near = times(4.0f, w[2], w[0]), sixth = Vector::all(-1.0f / 6.0f);
  const Vector part = Vector::all(1.0f / 24.0f);
  u[0] = w[0] * Vector::all(0.25f);
  u[1] = (outer + w[1]) * sixth;
  u[2] = (outer - w[1]) * sixth;
  u[3] = times(2.0f, w[1], near) * part;
  u[4] = times(-2.0f, w[1], near) * part;
  u[5] = w[2];
}

// Gᵀq along one axis.
static void filter_gradient_axis(const Vector (&q)[6], Vector (&w)[3]) {
  const Vector s = q[1] + q[2], d = q[2] - q[1], far_s = q[3] + q[4], far_d = q[3] - q[4];
  const Vector sixth = Vector::all(1.0f / 6.0f);
  w[0] = times(0.25f, q[0], times(-1.0f / 6.0f, s, far_s * Vector::all(1.0f / 24.0f)));
  w[1] = times(1.0f / 12.0f, far_d, d * sixth);
  w[2] = times(1.0f / 6.0f, far_s - s, q[5]);
}

// Applies one-dimensional transforms along both axes: kFrom × kFrom numbers to kTo × kTo.
template <int kFrom, int kTo, class Axis1, class Read, class Write>
static inline void both_axes(const Axis1& axis, const Read& read, const Write& write) {
  Vector half[kTo][kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < kFrom; ++j) {
    Vector from[kFrom], to[kTo];
#pragma GCC unroll 6
    for (int i = 0; i < kFrom; ++i) from[i] = read(i, j);
    axis(from, to);
#pragma GCC unroll 6
    for (int i = 0; i < kTo; ++i) half[i][j] = to[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < kTo; ++i) {
    Vector to[kTo];
    axis(half[i], to);
#pragma GCC unroll 6
    for (int j = 0; j < kTo; ++j) write(i, j, to[j]);
  }
}

// Calls visit(number, row · step + column, count) for every vector of a block × depth pixel: where it lies in
// the pixel, where in rows that are `step` apart, and how many of its numbers there are.
template <class Visit>
static void vectors_of(int64_t block, int64_t depth, int64_t step, const Visit& visit) {
  if (depth == step) {
    for (int64_t e = 0; e < block * depth; e += Vector::kWidth) visit(e, e, Vector::kWidth);
    return;
  }
  for (int64_t i = 0; i < block; ++i)
    for (int64_t c = 0; c < depth; c += Vector::kWidth)
      visit(i * depth + c, i * step + c, static_cast<int>(lesser(Vector::kWidth, depth - c)));
}

static int64_t whole_vectors(int64_t numbers) { return pieces(numbers, Vector::kWidth) * Vector::kWidth; }

// A tile of outputs: its block of images, its first pixel, and how much of it lies in the maps.
struct TilePlace {
  int64_t b, oy, ox, height, width;
};

// The tiles of a convolution, and the scratch memory that one thread needs to work on some at once.
struct Tiles {
  const ConvCall& p;
  int64_t down, along, each;

  // `rows` of the matrices are worked on at once.
  Tiles(const ConvCall& conv, int64_t rows)
      : p(conv),
        down(pieces(conv.out_height, kTileSide)),
        along(pieces(conv.out_width, kTileSide)),
        each(greater(1, rows / conv.block)) {}

  int64_t count() const { return p.images / p.block * down * along; }
  TilePlace place(int64_t tile) const {
    const int64_t oy = tile / along % down * kTileSide, ox = tile % along * kTileSide;
    return {tile / (down * along), oy, ox, lesser(kTileSide, p.out_height - oy),
            lesser(kTileSide, p.out_width - ox)};
  }
  int64_t rows() const { return each * p.block; }
  // Matrices of points lie an odd number of cache lines apart, so that a tile's numbers do not meet in one
  // set of the cache.
  int64_t x_point() const { return rows() * whole_vectors(p.depth) + 16; }
  int64_t x_numbers() const { return kPoints * x_point(); }

  // The pixels of one map that a tile of side² of them covers; `outside` stands for those beyond the edge.
  template <int kSide, class T>
  static void pixels(const Maps& maps, const T* from, int64_t b, int64_t y, int64_t x, const T* outside,
                     const T* (&found)[kSide * kSide]) {
    for (int64_t i = 0; i < kSide; ++i)
      for (int64_t j = 0; j < kSide; ++j) {
        const bool inside = y + i >= 0 && y + i < maps.height && x + j >= 0 && x + j < maps.width;
        found[i * kSide + j] = inside ? from + maps.at(b, y + i, x + j) : outside;
      }
  }

  // Bᵀ x B of tiles first … last - 1 into v, [point][tile, image][depth].
  template <class T>
  void transform_input(const T* x, const T* outside, int64_t first, int64_t last, float* v) const {
    const int64_t step = whole_vectors(p.depth), point = x_point();
    const Maps maps = p.x();
    for (int64_t tile = first; tile < last; ++tile) {
      const TilePlace at = place(tile);
      const T* pixel[kPoints];
      pixels<kTileReach>(maps, x, at.b, at.oy - p.top, at.ox - p.left, outside, pixel);
      float* to = v + (tile - first) * p.block * step;
      vectors_of(p.block, p.depth, step, [&](int64_t e, int64_t column, int count) {
        both_axes<6, 6>(
            input_axis, [&](int i, int j) { return load(pixel[i * 6 + j] + e, count); },
            [&](int i, int j, Vector t) { t.store(to + (i * 6 + j) * point + column); });
      });
    }
  }
};

static bool winograd_applies(const ConvCall& p) {
  return p.sensible() && p.rows == 3 && p.columns == 3 && p.stride_y == 1 && p.stride_x == 1 &&
         p.dilation_y == 1 && p.dilation_x == 1 && p.groups == 1 && p.packed;
}

static int64_t winograd_size(int64_t inner, int64_t columns) {
  return packed_size(kPoints, inner, columns, 1);
}

static bool winograd_weights_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PackCall*>(parameters);
  if (!p.sensible() || p.taps != 9 || p.groups != 1) return false;
  bytes[0] = product(9, p.depth, p.filters, 4);
  bytes[1] = product(winograd_size(p.inner(), p.columns()), 4);
  return true;
}

// G w Gᵀ in panels, [panel][point][inner][kPanel]; backward of the filters turned round, w(2 - r, 2 - s).
static void winograd_weights(const Call& call, Threads& threads) {
  const auto& p = call.as<PackCall>();
  const float* weight = call.at<float>(0);
  float* packed = call.at<float>(1);
  const int64_t panels = pieces(p.columns(), kPanel), inner = p.inner(), columns = p.columns();
  // Several rows a task, so that threads write apart from each other.
  constexpr int64_t kRows = 8;
  const int64_t runs = pieces(inner, kRows);
  const auto row = [&](int64_t panel, int64_t k) {
    float* to = packed + (panel * kPoints * inner + k) * kPanel;
    for (int64_t j = 0; j < kPanel; j += Vector::kWidth) {
      float lanes[9][Vector::kWidth] = {};
      for (int64_t t = 0; t < 9; ++t)
        for (int64_t i = 0; i < Vector::kWidth && panel * kPanel + j + i < columns; ++i) {
          const int64_t column = panel * kPanel + j + i;
          lanes[p.backward ? 8 - t : t][i] =
              weight[t * p.depth * p.filters +
                     (p.backward ? column * p.filters + k : k * p.filters + column)];
        }
      both_axes<3, 6>(
          filter_axis, [&](int r, int s) { return Vector::load(lanes[r * 3 + s]); },
          [&](int r, int s, Vector u) { u.store(to + (r * 6 + s) * inner * kPanel + j); });
    }
  };
  threads.each(panels * runs, [&](int64_t task) {
    const int64_t first = task % runs * kRows;
    for (int64_t k = first; k < lesser(inner, first + kRows); ++k) row(task / runs, k);
  });
}

struct WinogradCall {
  ConvCall conv;
  int64_t rows;   // of the matrices that are worked on at once
  int64_t parts;  // the panels of filters are shared out among so many tasks
};

template <class T>
static bool winograd_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const WinogradCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!moderate(given) || !winograd_applies(p)) return false;
  bytes[0] = product(p.x().size(), kBytes<T>);
  bytes[1] = product(winograd_size(p.depth, p.filters), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = p.has_gate ? product(p.y().size(), kBytes<T>) : 0;
  bytes[4] = product(p.y().size(), kBytes<T>);
  return given.rows > 0 && given.parts > 0;
}

static int64_t m_row(const Tiles& tiles) { return lesser(kPanel, whole_vectors(tiles.p.filters)); }
static int64_t m_point(const Tiles& tiles) { return tiles.rows() * m_row(tiles) + 16; }

template <class T>
static int64_t scratch(const WinogradCall& given) {
  const ConvCall& p = given.conv;
  const Tiles tiles(p, given.rows);
  return 4 * (tiles.x_numbers() + kPoints * m_point(tiles) + p.x().pixel() + Vector::kWidth);
}

// Where finished tiles go: into maps; into maps and measured; or each 2×2 pixels of them as their largest,
// and which that was. begin() comes before the tiles of a unit and a panel, settle() behind each, end() at
// last.
struct Unmeasured {
  void begin() const {}
  void settle(const TilePlace&) const {}
  void end(int64_t, int64_t) const {}
};

template <class T>
struct IntoMaps : Unmeasured {
  Maps maps;
  const T* gate;
  T* y;

  IntoMaps(const Maps& all, const T* open, T* to) : maps(all), gate(open), y(to) {}

  void put(const Vector (&sum)[4][4], const TilePlace& place, int64_t image, int64_t channel,
           int width) const {
    const int64_t at = image * maps.depth + channel;
    for (int64_t i = 0; i < place.height; ++i)
      for (int64_t j = 0; j < place.width; ++j) {
        const int64_t to = maps.at(place.b, place.oy + i, place.ox + j) + at;
        store(gate ? Vector::where_positive(load(gate + to, width), sum[i][j]) : sum[i][j], y + to, width);
      }
  }
};

// A number as a map of T holds it.
static Vector as_stored(Vector x, const float*) { return x; }
[[maybe_unused]] static Vector as_stored(Vector x, const Bfloat16*) {
  Bfloat16 lanes[Vector::kWidth];
  x.store(lanes);
  return Vector::load(lanes);
}

// For the batch normalisation behind: of each unit and channel how many numbers there are, their mean, and
// the squares of what they differ from it by, in moments as [unit][3][channel].
template <class T>
struct IntoMeasured {
  Maps maps;
  T* y;
  double* moments;
  float pivot[kPanel];       // the first number, about which sums are taken
  float sums[2][kPanel];     // of a tile
  double totals[2][kPanel];  // of the unit
  int64_t count;

  IntoMeasured(const Maps& all, T* to, double* measured) : maps(all), y(to), moments(measured), count(0) {}

  void begin() {
    count = 0;
    for (int64_t k = 0; k < kPanel; ++k) sums[0][k] = sums[1][k] = 0.0f;
    for (int64_t k = 0; k < kPanel; ++k) totals[0][k] = totals[1][k] = 0.0;
  }

  void put(const Vector (&sum)[4][4], const TilePlace& place, int64_t image, int64_t channel, int width) {
    const int64_t at = image * maps.depth + channel, k = channel % kPanel;
    if (count == 0 && image == 0) as_stored(sum[0][0], y).store(pivot + k);
    const Vector start = Vector::load(pivot + k);
    Vector one = Vector::zero(), two = Vector::zero();
    for (int64_t i = 0; i < place.height; ++i)
      for (int64_t j = 0; j < place.width; ++j) {
        store(sum[i][j], y + maps.at(place.b, place.oy + i, place.ox + j) + at, width);
        const Vector d = as_stored(sum[i][j], y) - start;
        one = one + d;
        two = two + d * d;
      }
    (Vector::load(sums[0] + k) + one).store(sums[0] + k);
    (Vector::load(sums[1] + k) + two).store(sums[1] + k);
  }

  void settle(const TilePlace& place) {
    count += maps.block * place.height * place.width;
    for (int64_t k = 0; k < kPanel; ++k) {
      totals[0][k] += static_cast<double>(sums[0][k]);
      totals[1][k] += static_cast<double>(sums[1][k]);
      sums[0][k] = sums[1][k] = 0.0f;
    }
  }

  void end(int64_t unit, int64_t panel) const {
    double* to = moments + unit * 3 * maps.depth + panel * kPanel;
    const double numbers = static_cast<double>(count);
    for (int64_t k = 0; k < lesser(kPanel, maps.depth - panel * kPanel); ++k) {
      const double shift = totals[0][k] / numbers, squares = totals[1][k] - totals[0][k] * shift;
      to[k] = numbers;
      to[maps.depth + k] = static_cast<double>(pivot[k]) + shift;
      to[2 * maps.depth + k] = squares < 0.0 ? 0.0 : squares;
    }
  }
};

template <class T>
struct IntoPool : Unmeasured {
  Maps maps;  // of the largest numbers
  T* y;
  uint8_t* index;

  IntoPool(const Maps& all, T* to, uint8_t* which) : maps(all), y(to), index(which) {}

  void put(const Vector (&sum)[4][4], const TilePlace& place, int64_t image, int64_t channel,
           int width) const {
    const int64_t at = image * maps.depth + channel;
    for (int64_t i = 0; i < place.height / 2; ++i)
      for (int64_t j = 0; j < place.width / 2; ++j) {
        const Vector window[4] = {sum[2 * i][2 * j], sum[2 * i][2 * j + 1], sum[2 * i + 1][2 * j],
                                  sum[2 * i + 1][2 * j + 1]};
        Vector best = window[0], position = Vector::zero();
        for (int t = 1; t < 4; ++t) {
          position = Vector::where_beats(window[t], best, Vector::all(static_cast<float>(t)), position);
          best = Vector::where_beats(window[t], best, window[t], best);
        }
        const int64_t to = maps.at(place.b, place.oy / 2 + i, place.ox / 2 + j) + at;
        store(best, y + to, width);
        if (index) store_index(position, index + to, width);
      }
  }
};

// Aᵀ m A of tiles first … last - 1 and one panel of filters, finished.
template <class Into>
static void finish_tiles(const Tiles& tiles, int64_t first, int64_t last, int64_t panel, const float* m,
                         const float* bias, Into& into) {
  const ConvCall& p = tiles.p;
  into.begin();
  const int64_t point = m_point(tiles), width = lesser(kPanel, p.filters - panel * kPanel);
  for (int64_t tile = first; tile < last; ++tile) {
    const TilePlace place = tiles.place(tile);
    for (int64_t image = 0; image < p.block; ++image)
      for (int64_t c = 0; c < width; c += Vector::kWidth) {
        const float* from = m + ((tile - first) * p.block + image) * m_row(tiles) + c;
        const int count = static_cast<int>(lesser(Vector::kWidth, width - c));
        const Vector offset = bias ? load(bias + panel * kPanel + c, count) : Vector::zero();
        Vector sums[4][4];
        both_axes<6, 4>(
            output_axis, [&](int i, int j) { return Vector::load(from + (i * 6 + j) * point); },
            [&](int i, int j, Vector sum) {
              sum = sum + offset;
              sums[i][j] = p.relu ? Vector::positive(sum) : sum;
            });
        into.put(sums, place, image, panel * kPanel + c, count);
      }
    into.settle(place);
  }
  into.end(first / tiles.each, panel);
}

template <class T, class Into>
static void winograd_into(const Call& call, const WinogradCall& given, Threads& threads, const Into& into) {
  const ConvCall& p = given.conv;
  const Tiles tiles(p, given.rows);
  const int64_t panels = pieces(p.filters, kPanel), units = pieces(tiles.count(), tiles.each);
  const float* weights = call.at<float>(1);
  threads.each_worker(units * given.parts, [&](int64_t task, int worker) {
    const int64_t first = task / given.parts * tiles.each, part = task % given.parts;
    const int64_t last = lesser(tiles.count(), first + tiles.each);
    float* v = static_cast<float*>(threads.scratch(worker));
    float* m = v + tiles.x_numbers();
    T* outside = reinterpret_cast<T*>(m + kPoints * m_point(tiles));
    Into own = into;
    for (int64_t i = 0; i < p.x().pixel() + Vector::kWidth; ++i) put(outside + i, 0.0f);
    tiles.transform_input(call.at<T>(0), outside, first, last, v);
    for (int64_t panel = panels * part / given.parts; panel < panels * (part + 1) / given.parts; ++panel) {
      for (int64_t point = 0; point < kPoints; ++point) {
        const float* a = v + point * tiles.x_point();
        const float* b = weights + (panel * kPoints + point) * p.depth * kPanel;
        Brgemm<float> g{};
        g.a = &a;
        g.b = &b;
        g.count = 1;
        g.rows = (last - first) * p.block;
        g.columns = lesser(kPanel, p.filters - panel * kPanel);
        g.inner = p.depth;
        g.row_step = whole_vectors(p.depth);
        g.inner_step = 1;
        g.b_step = kPanel;
        g.c = m + point * m_point(tiles);
        g.c_step = m_row(tiles);
        brgemm(g);
      }
      finish_tiles(tiles, first, last, panel, m, p.has_bias ? call.at<float>(2) : nullptr, own);
    }
  });
}

// y = relu(x ∗ W + bias), closed where a gate is not positive. The gradient by x is the same with dy for x.
template <class T>
static void winograd(const Call& call, Threads& threads) {
  const auto& given = call.as<WinogradCall>();
  const T* gate = given.conv.has_gate ? call.at<T>(3) : nullptr;
  winograd_into<T>(call, given, threads, IntoMaps<T>(given.conv.y(), gate, call.at<T>(4)));
}

template <class T>
static bool winograd_moments_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const WinogradCall*>(parameters);
  int64_t alone[5];
  if (!winograd_sizes<T>(parameters, alone) || given.conv.has_gate || given.conv.relu) return false;
  for (int i = 0; i < 3; ++i) bytes[i] = alone[i];
  bytes[3] = alone[4];
  const Tiles tiles(given.conv, given.rows);
  bytes[4] = product(pieces(tiles.count(), tiles.each), 3, given.conv.filters, 8);
  return true;
}

// y = x ∗ W + bias, and its moments.
template <class T>
static void winograd_moments(const Call& call, Threads& threads) {
  const auto& given = call.as<WinogradCall>();
  winograd_into<T>(call, given, threads, IntoMeasured<T>(given.conv.y(), call.at<T>(3), call.at<double>(4)));
}

struct WinogradPoolCall {
  WinogradCall winograd;
  int64_t has_index;

  Maps y() const {
    const ConvCall& p = winograd.conv;
    return {p.images, p.block, p.out_height / 2, p.out_width / 2, p.filters};
  }
};

template <class T>
static int64_t scratch(const WinogradPoolCall& given) {
  return scratch<T>(given.winograd);
}

template <class T>
static bool winograd_pool_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const WinogradPoolCall*>(parameters);
  const ConvCall& p = given.winograd.conv;
  int64_t alone[5];
  if (!winograd_sizes<T>(&given.winograd, alone) || p.has_gate) return false;
  if (p.out_height < 2 || p.out_width < 2) return false;
  for (int i = 0; i < 3; ++i) bytes[i] = alone[i];
  bytes[3] = product(given.y().size(), kBytes<T>);
  bytes[4] = given.has_index ? given.y().size() : 0;
  return true;
}

// The same and 2×2 max pooling behind it: the maps in between are never written.
template <class T>
static void winograd_pool(const Call& call, Threads& threads) {
  const auto& given = call.as<WinogradPoolCall>();
  uint8_t* index = given.has_index ? call.at<uint8_t>(4) : nullptr;
  winograd_into<T>(call, given.winograd, threads, IntoPool<T>(given.y(), call.at<T>(3), index));
}
