// brgemm.h's contract over any Vector: a tile of C stays in registers while all products are added.
#pragma once

template <class T, int kRows, int kVectors, bool kPartial, bool kAcross>
struct Tile {
  // kAcross: neighbouring rows of A are neighbours in memory (row_step 1).
  // kPartial: the last vector of a row has `tail` columns.
  static void run(const Brgemm<T>& g, int64_t row, int64_t panel, int64_t column, int tail) {
    constexpr int kTriples = (kRows + 2) / 3;
    Vector sum[kRows][kVectors];
    T* c = g.c + row * g.c_step + panel * kPanel + column;
    start(g, c, panel * kPanel + column, tail, sum);
    const int64_t step = g.row_step;
    for (int64_t t = 0; t < g.count; ++t) {
      const float* b = g.b[t] + panel * g.panel_step + column;
      // Each pointer serves three rows through the processor's own base + index × {0, 1, 2}.
      const float* a[kTriples];
      for (int i = 0; i < kTriples; ++i) a[i] = g.a[t] + (row + 3 * i) * (kAcross ? 1 : step);
      for (int64_t k = 0; k < g.inner; ++k) {
        Vector right[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * Vector::kWidth, v == kVectors - 1, tail);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
          const Vector left = Vector::all(kAcross ? a[0][i] : a[i / 3][(i % 3) * step]);
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) sum[i][v] = Vector::multiply_add(left, right[v], sum[i][v]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < kTriples; ++i) a[i] += g.inner_step;
        b += g.b_step;
      }
    }
    finish(g, c, row, panel * kPanel + column, tail, sum);
  }

 private:
  template <class Number>
  static Vector load(const Number* p, bool last, int tail) {
    return kPartial && last ? Vector::load(p, tail) : Vector::load(p);
  }

  static void start(const Brgemm<T>& g, const T* c, int64_t column, int tail,
                    Vector (&sum)[kRows][kVectors]) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const bool last = v == kVectors - 1;
      const int at = v * Vector::kWidth;
      const Vector bias = g.bias ? load(g.bias + column + at, last, tail) : Vector::zero();
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i)
        sum[i][v] = g.accumulate ? load(c + i * g.c_step + at, last, tail) : bias;
    }
  }

  static void finish(const Brgemm<T>& g, T* c, int64_t row, int64_t column, int tail,
                     Vector (&sum)[kRows][kVectors]) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const bool last = v == kVectors - 1;
        const int at = v * Vector::kWidth;
        Vector x = sum[i][v];
        if (g.relu) x = Vector::positive(x);
        if (g.gate)
          x = Vector::where_positive(load(g.gate + (row + i) * g.gate_step + column + at, last, tail), x);
        T* to = c + i * g.c_step + at;
        if (kPartial && last)
          x.store(to, tail);
        else
          x.store(to);
      }
    }
  }
};

template <class T>
using TileFunction = void (*)(const Brgemm<T>&, int64_t, int64_t, int64_t, int);

// Only sums over places read A across, and these are floats.
template <class T, int kRows, int kVectors>
struct TileRow {
  static constexpr TileFunction<T> at(bool partial, bool across) {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (across)
        return partial ? Tile<T, kRows, kVectors, true, true>::run
                       : Tile<T, kRows, kVectors, false, true>::run;
    }
    return partial ? Tile<T, kRows, kVectors, true, false>::run : Tile<T, kRows, kVectors, false, false>::run;
  }
};

// The function for each number of vectors and rows, with a whole and a partial last vector, along and across.
template <class T>
struct TileTable {
  TileFunction<T> of[Vector::kTileVectors][Vector::kTileRows][2][2];

  constexpr TileTable() : of() { fill<Vector::kTileVectors, Vector::kTileRows>(); }

 private:
  template <int kVectors, int kRows>
  constexpr void fill() {
    for (int partial = 0; partial < 2; ++partial)
      for (int across = 0; across < 2; ++across)
        of[kVectors - 1][kRows - 1][partial][across] = TileRow<T, kRows, kVectors>::at(partial, across);
    if constexpr (kRows > 1)
      fill<kVectors, kRows - 1>();
    else if constexpr (kVectors > 1)
      fill<kVectors - 1, Vector::kTileRows>();
  }
};

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t pieces(int64_t whole, int64_t piece) { return (whole + piece - 1) / piece; }

template <class T>
static void brgemm(const Brgemm<T>& g) {
  if (g.rows <= 0 || g.columns <= 0) return;
  constexpr int64_t kWide = Vector::kWidth * Vector::kTileVectors;
  static constexpr TileTable<T> table;
  const bool across = g.row_step == 1;
  // Rows are shared out evenly: 16 become 8 + 8, not 12 + 4, so that no tile starves the multipliers.
  const int64_t tiles = pieces(g.rows, Vector::kTileRows), least = g.rows / tiles, more = g.rows % tiles;
  for (int64_t panel = 0; panel * kPanel < g.columns; ++panel) {
    const int64_t width = lesser(g.columns - panel * kPanel, kPanel);
    for (int64_t column = 0; column < width; column += kWide) {
      const int64_t left = lesser(width - column, kWide);
      const int vectors = static_cast<int>(pieces(left, Vector::kWidth));
      const int tail = static_cast<int>(left - (vectors - 1) * Vector::kWidth);
      for (int64_t i = 0, row = 0; i < tiles; ++i) {
        const int64_t rows = least + (i < more);
        table.of[vectors - 1][rows - 1][tail != Vector::kWidth][across](g, row, panel, column, tail);
        row += rows;
      }
    }
  }
}
