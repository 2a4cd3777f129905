// Muon (Jordan 2024): Nesterov's momentum of a matrix, made nearly orthogonal, is the step.
//
// The Newton–Schulz iteration X ← X·P(XᵀX) with P(A) = a·I + b·A + c·A² is done on the Gram matrix alone.
// All that is made of A commutes with it, so with Q the product of the P so far X·Q is the iterate and
// Q·A·Q its Gram matrix: of an L × S matrix, L ≥ S, the long side is met twice, not twice an iteration. All
// of these are symmetric, and one half of each is mirrored.

constexpr float kMuonA = 3.4445f, kMuonB = -4.7750f, kMuonC = 2.0315f;

struct MuonCall {
  int64_t rows, columns;
  double momentum;
  int64_t steps;
  int64_t unit;  // the weights are first brought to the norm √columns
  double l2, l1, decay, rate_factor;
  int64_t clipped;

  int64_t size() const { return rows * columns; }
  int64_t longer() const { return greater(rows, columns); }
  int64_t shorter() const { return lesser(rows, columns); }
};

// Floats behind the partial sums: the matrix and its step, longer × shorter, and four Gram matrices.
static bool muon_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const MuonCall*>(parameters);
  if (p.rows <= 0 || p.columns <= 0 || p.steps <= 0) return false;
  const int64_t size = product(p.rows, p.columns), square = product(p.shorter(), p.shorter());
  bytes[0] = bytes[4] = bytes[5] = product(size, 4);
  bytes[1] = bytes[2] = 8;
  bytes[3] = p.clipped ? 8 : 0;
  bytes[6] = squares_bytes(size) + product(size, 8) + product(square, 16);
  return true;
}

constexpr int64_t kMuonRows = 48;  // of a product, in one task

struct Matrix {
  const float* at;
  int64_t row_step, inner_step;
};

// c = a·b, `columns` of it from a panel's first on, for rows [first, last); rows of b and c are `step` long.
static void multiply_block(const Matrix& a, const float* b, int64_t inner, int64_t step, int64_t first,
                           int64_t last, int64_t columns, float* c) {
  const float* left = a.at + first * a.row_step;
  Brgemm<float> g{};
  g.a = &left;
  g.b = &b;
  g.count = 1;
  g.rows = last - first;
  g.columns = columns;
  g.inner = inner;
  g.row_step = a.row_step;
  g.inner_step = a.inner_step;
  g.b_step = step;
  g.panel_step = kPanel;
  g.c = c + first * step;
  g.c_step = step;
  brgemm(g);
}

// c = a·b of `size` rows where the product is symmetric: below the diagonal it is made, above it mirrored.
static void multiply_symmetric(const Matrix& a, const float* b, int64_t inner, int64_t size, float* c,
                               Threads& threads) {
  const int64_t panels = pieces(size, kPanel), blocks = pieces(size, kMuonRows);
  threads.each(panels * blocks, [&](int64_t task) {
    const int64_t column = task / blocks * kPanel, columns = lesser(kPanel, size - column);
    const int64_t first = column + task % blocks * kMuonRows, last = lesser(size, first + kMuonRows);
    if (first >= last) return;
    multiply_block(a, b + column, inner, size, first, last, columns, c + column);
    for (int64_t i = first; i < last; ++i)
      for (int64_t j = column; j < lesser(i, column + columns); ++j) c[j * size + i] = c[i * size + j];
  });
}

// What x of `longer` rows is to be multiplied by, in the last of the four Gram matrices of `room`.
static const float* orthogonaliser(const float* x, int64_t longer, int64_t size, int64_t steps, float* room,
                                   Threads& threads) {
  const int64_t square = size * size;
  float *gram = room, *p = room + square, *spare = room + 2 * square, *whole = room + 3 * square;
  multiply_symmetric({x, 1, size}, x, longer, size, gram, threads);
  for (int64_t step = 0; step < steps; ++step) {
    multiply_symmetric({gram, size, 1}, gram, size, size, p, threads);
    by_rows(threads, size, size, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        for (int64_t j = i * size; j < (i + 1) * size; ++j) p[j] = kMuonB * gram[j] + kMuonC * p[j];
        p[i * size + i] += kMuonA;
      }
    });
    if (step == 0) {
      by_numbers(threads, square, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) whole[i] = p[i];
      });
    } else {
      multiply_symmetric({whole, size, 1}, p, size, size, spare, threads);
      float* before = whole;
      whole = spare;
      spare = before;
    }
    if (step + 1 == steps) break;
    multiply_symmetric({gram, size, 1}, p, size, size, spare, threads);
    multiply_symmetric({spare, size, 1}, p, size, size, gram, threads);
  }
  return whole;
}

static void muon(const Call& call, Threads& threads) {
  const auto& p = call.as<MuonCall>();
  const float* g = call.at<float>(0);
  const double rate = p.rate_factor * *call.at<double>(1);
  float *w = call.at<float>(4), *v = call.at<float>(5);
  double* partial = call.at<double>(6);
  float* x = reinterpret_cast<float*>(call.at<char>(6) + squares_bytes(p.size()));
  float *move = x + p.size(), *room = move + p.size();
  const int64_t longer = p.longer(), size = p.shorter();
  const bool wide = p.columns > p.rows;
  const auto place = [&](int64_t i, int64_t j) { return wide ? j * size + i : i * size + j; };
  const Regular regular = Regular::of<MuonCall>(call);
  const float momentum = static_cast<float>(p.momentum);
  by_rows(threads, p.rows, p.columns, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      for (int64_t j = 0; j < p.columns; ++j) {
        const int64_t at = i * p.columns + j;
        const float d = regular(g[at], w[at]);
        v[at] = momentum * v[at] + d;
        x[place(i, j)] = d + momentum * v[at];
      }
  });
  const double norm = sqrt(squares(x, p.size(), partial, threads));
  const float unit = static_cast<float>(1.0 / (norm + 1e-7));
  by_numbers(threads, p.size(), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) x[i] *= unit;
  });
  const float* by = orthogonaliser(x, longer, size, p.steps, room, threads);
  threads.each(pieces(longer, kMuonRows), [&](int64_t task) {
    const int64_t first = task * kMuonRows, last = lesser(longer, first + kMuonRows);
    multiply_block({x, size, 1}, by, size, size, first, last, size, move);
  });
  double shrink = 1.0 - rate * p.decay;
  if (p.unit) {
    const double length = sqrt(squares(w, p.size(), partial, threads));
    shrink = length > 0.0 ? sqrt(static_cast<double>(p.columns)) / length : 1.0;
  }
  const double tall = static_cast<double>(p.columns) / static_cast<double>(p.rows);
  const float keep = static_cast<float>(shrink),
              step = static_cast<float>(rate * sqrt(tall > 1.0 ? tall : 1.0));
  by_rows(threads, p.rows, p.columns, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      for (int64_t j = 0; j < p.columns; ++j)
        w[i * p.columns + j] = keep * w[i * p.columns + j] - step * move[place(i, j)];
  });
}
