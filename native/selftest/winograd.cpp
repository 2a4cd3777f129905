// Winograd's convolution against six loops over plain (N, H, W, C) arrays. How far it may be off is computed:
// the same algorithm in double, with the magnitudes of all its matrices and numbers, times how many roundings
// one number meets on its way (native/kernels/winograd.h counts them).
#include <algorithm>
#include <stdexcept>

#include "../cpu.h"
#include "../engine.h"
#include "shape.h"

namespace selftest {

namespace {

// The matrices of F(4×4, 3×3), as Lavin and Gray give them.
constexpr double kB[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                             {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
constexpr double kG[6][3] = {{1. / 4, 0, 0},
                             {-1. / 6, -1. / 6, -1. / 6},
                             {-1. / 6, 1. / 6, -1. / 6},
                             {1. / 24, 1. / 12, 1. / 6},
                             {1. / 24, -1. / 12, 1. / 6},
                             {0, 0, 1}};
constexpr double kA[4][6] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

// Roundings of one number along both axes of a transform.
constexpr double kOfInput = 6, kOfFilter = 8, kOfOutput = 6, kOfGradient = 4, kOfFilterGradient = 10;

double entry_b(int i, int k) { return kB[i][k]; }
double entry_g(int i, int k) { return kG[i][k]; }
double entry_at(int i, int k) { return kA[i][k]; }
double entry_a(int i, int k) { return kA[k][i]; }
double entry_gt(int i, int k) { return kG[k][i]; }

// M x Mᵀ with the magnitudes of M, or M itself where `whole`.
template <int kTo, int kFrom, class Entry, class Read>
void both(const Entry& entry, const Read& read, double (&made)[kTo][kTo], bool whole = false) {
  const auto size = [&](int i, int k) { return whole ? entry(i, k) : std::fabs(entry(i, k)); };
  double half[kTo][kFrom] = {};
  for (int i = 0; i < kTo; ++i)
    for (int j = 0; j < kFrom; ++j)
      for (int k = 0; k < kFrom; ++k) half[i][j] += size(i, k) * read(k, j);
  for (int i = 0; i < kTo; ++i)
    for (int j = 0; j < kTo; ++j) {
      made[i][j] = 0;
      for (int k = 0; k < kFrom; ++k) made[i][j] += half[i][k] * size(j, k);
    }
}

// Transformed numbers of every tile: [tile][point][channel].
struct Tiled {
  int64_t down, along, channels;
  Doubles numbers;

  double* at(int64_t tile, int64_t point) { return &numbers[(tile * 36 + point) * channels]; }
};

// |Bᵀ||x||B| of every tile.
Tiled input_magnitudes(const Shape& s, const Floats& x) {
  Tiled made{(s.out_height + 3) / 4, (s.out_width + 3) / 4, s.depth, {}};
  made.numbers.resize(s.images * made.down * made.along * 36 * s.depth);
  for (int64_t tile = 0; tile < s.images * made.down * made.along; ++tile) {
    const int64_t n = tile / (made.down * made.along);
    const int64_t top = tile / made.along % made.down * 4 - s.top, left = tile % made.along * 4 - s.left;
    for (int64_t c = 0; c < s.depth; ++c) {
      double v[6][6];
      const auto read = [&](int i, int j) {
        const int64_t iy = top + i, ix = left + j;
        const bool inside = iy >= 0 && iy < s.height && ix >= 0 && ix < s.width;
        return inside ? std::fabs(x[((n * s.height + iy) * s.width + ix) * s.depth + c]) : 0.0;
      };
      both<6, 6>(entry_b, read, v);
      for (int p = 0; p < 36; ++p) made.at(tile, p)[c] = v[p / 6][p % 6];
    }
  }
  return made;
}

// G w Gᵀ, or |G||w||Gᵀ|, in panels; backward of the filters turned round with depth and filters exchanged.
Floats transformed(const Shape& s, const Floats& weight, bool backward, bool magnitudes) {
  Floats packed;
  add_panels(
      36, backward ? s.filters : s.depth, backward ? s.depth : s.filters,
      [&](int64_t p, int64_t i, int64_t j) {
        const auto read = [&](int r, int t) {
          const int tap = backward ? 8 - (r * 3 + t) : r * 3 + t;
          const double w = weight[(tap * s.depth + (backward ? j : i)) * s.filters + (backward ? i : j)];
          return magnitudes ? std::fabs(w) : w;
        };
        double u[6][6];
        both<6, 3>(entry_g, read, u, !magnitudes);
        return static_cast<float>(u[p / 6][p % 6]);
      },
      packed);
  return packed;
}

void weights(const Shape& s, const Numbers& n, const Emit& emit) {
  for (const bool backward : {false, true}) {
    Doubles allowed = widened(transformed(s, n.weight, backward, true));
    for (double& m : allowed) m *= rounding(kOfFilter);
    emit({"winograd_weights",
          s.text() + (backward ? ", backward" : ""),
          {9, s.depth, s.filters, 1, backward},
          {given(n.weight), made(transformed(s, n.weight, backward, false), allowed)}});
  }
}

std::string counts(int64_t rows, int64_t parts) {
  return ", rows " + std::to_string(rows) + ", parts " + std::to_string(parts);
}

// |Aᵀ|(|U| ⊙ |Bᵀ||x||B|)|A| for every output, in plain order.
Doubles output_magnitudes(const Shape& s, const Numbers& n) {
  Tiled v = input_magnitudes(s, n.x);
  const Floats u = transformed(s, n.weight, false, false);
  Doubles made(s.images * s.out_height * s.out_width * s.filters);
  for (int64_t tile = 0; tile < s.images * v.down * v.along; ++tile) {
    const int64_t image = tile / (v.down * v.along);
    const int64_t oy = tile / v.along % v.down * 4, ox = tile % v.along * 4;
    for (int64_t k = 0; k < s.filters; ++k) {
      double m[36] = {}, y[4][4];
      for (int p = 0; p < 36; ++p)
        for (int64_t c = 0; c < s.depth; ++c)
          m[p] += v.at(tile, p)[c] * std::fabs(u[((k / 32 * 36 + p) * s.depth + c) * 32 + k % 32]);
      both<4, 6>(entry_at, [&](int i, int j) { return m[i * 6 + j]; }, y);
      for (int64_t i = 0; i < 4 && oy + i < s.out_height; ++i)
        for (int64_t j = 0; j < 4 && ox + j < s.out_width; ++j)
          made[((image * s.out_height + oy + i) * s.out_width + ox + j) * s.filters + k] = y[i][j];
    }
  }
  return made;
}

// The moments of the outputs of each unit of tiles, and how far they may be off: each output by what it may
// be off itself, and the sums, in short runs about the first number, by 33 roundings.
void measured(const Shape& s, const Doubles& y, const Doubles& y_off, int64_t rows, Doubles& moments,
              Doubles& off) {
  const int64_t down = (s.out_height + 3) / 4, along = (s.out_width + 3) / 4;
  const int64_t tiles = s.images / s.block * down * along, each = rows / s.block > 1 ? rows / s.block : 1;
  const int64_t units = (tiles + each - 1) / each;
  moments.assign(units * 3 * s.filters, 0);
  off.assign(moments.size(), 0);
  const auto visit = [&](int64_t unit, int64_t k, const auto& work) {
    for (int64_t tile = unit * each; tile < tiles && tile < (unit + 1) * each; ++tile)
      for (int64_t image = 0; image < s.block; ++image)
        for (int64_t t = 0; t < 16; ++t) {
          const int64_t n = tile / (down * along) * s.block + image;
          const int64_t oy = tile / along % down * 4 + t / 4, ox = tile % along * 4 + t % 4;
          if (oy < s.out_height && ox < s.out_width)
            work(((n * s.out_height + oy) * s.out_width + ox) * s.filters + k);
        }
  };
  for (int64_t unit = 0; unit < units; ++unit)
    for (int64_t k = 0; k < s.filters; ++k) {
      const int64_t at = unit * 3 * s.filters + k;
      double &count = moments[at], &mean = moments[at + s.filters], &squares = moments[at + 2 * s.filters];
      double sum = 0, from_pivot = 0, about_pivot = 0, moved = 0, pivot = 0;
      visit(unit, k, [&](int64_t i) {
        pivot = count == 0 ? y[i] : pivot;
        count += 1;
        sum += y[i];
        moved += y_off[i];
        from_pivot += std::fabs(y[i] - pivot);
        about_pivot += (y[i] - pivot) * (y[i] - pivot);
      });
      mean = sum / count;
      const double mean_off = (moved + 20 * kEps * from_pivot) / count;
      off[at + s.filters] = mean_off + kEps * std::fabs(mean);
      double squares_off = 20 * kEps * about_pivot + 2 * mean_off * from_pivot;
      visit(unit, k, [&](int64_t i) {
        const double d = std::fabs(y[i] - mean);
        squares += d * d;
        squares_off += (2 * d + y_off[i]) * y_off[i];
      });
      off[at + 2 * s.filters] = squares_off;
    }
}

// Outputs whose moments are taken: in maps of bfloat16 numbers those of the numbers that are stored, any of
// which may be the next one.
void measured_forward(const Shape& s, const Numbers& n, const Doubles& sums, const Doubles& magnitudes,
                      int64_t rows, int64_t parts, bool bias, const Emit& emit) {
  Doubles y = sums, allowed = magnitudes;
  for (size_t i = 0; i < y.size(); ++i) {
    if (bias) y[i] += n.bias[i % s.filters];
    if (bias) allowed[i] += std::fabs(n.bias[i % s.filters]);
    allowed[i] *= rounding(1 + kOfInput + static_cast<double>(s.depth) + kOfOutput + 1);
  }
  const Floats made_y = rounded(y), held = emit.stored(made_y);
  const double step = held == made_y ? 0.0 : kEpsBfloat16;
  const Doubles stored = widened(held);
  Doubles stored_off = allowed, moments, off;
  for (size_t i = 0; i < y.size(); ++i) stored_off[i] += step * (std::fabs(stored[i]) + allowed[i]);
  measured(s, stored, stored_off, rows, moments, off);
  Words parameters = s.parameters(bias, false, false, true);
  parameters.insert(parameters.end(), {rows, parts});
  emit({"winograd_moments",
        s.text() + counts(rows, parts) + (bias ? ", bias" : ""),
        parameters,
        {given_map(x_blocks(s, n.x)), given(transformed(s, n.weight, false, false)),
         bias ? given(n.bias) : left_out(),
         made_map(y_blocks(s, rounded(y)), widened(y_blocks(s, rounded(allowed)))), made(moments, off)}});
}

void forward(const Shape& s, const Numbers& n, int64_t rows, int64_t parts, const Emit& emit) {
  Doubles sums(n.dy.size());
  s.each([&](int64_t x, int64_t y, int64_t w) { sums[y] += static_cast<double>(n.x[x]) * n.weight[w]; });
  const Doubles magnitudes = output_magnitudes(s, n);
  for (int kind = 0; kind < 8; ++kind) {
    const bool bias = kind & 1, relu = kind & 2, gate = kind & 4;
    Doubles y = sums, allowed = magnitudes;
    for (size_t i = 0; i < y.size(); ++i) {
      if (bias) y[i] += n.bias[i % s.filters];
      if (bias) allowed[i] += std::fabs(n.bias[i % s.filters]);
      if (relu && y[i] < 0) y[i] = 0;
      // The filters given are rounded once.
      allowed[i] *= rounding(1 + kOfInput + static_cast<double>(s.depth) + kOfOutput + 1);
      if (gate && n.gate[i] <= 0) y[i] = allowed[i] = 0;
    }
    Words parameters = s.parameters(bias, relu, gate, true);
    parameters.insert(parameters.end(), {rows, parts});
    emit({"winograd",
          s.text() + counts(rows, parts) + (bias ? ", bias" : "") + (relu ? ", relu" : "") +
              (gate ? ", gate" : ""),
          parameters,
          {given_map(x_blocks(s, n.x)), given(transformed(s, n.weight, false, false)),
           bias ? given(n.bias) : left_out(), gate ? given_map(y_blocks(s, n.gate)) : left_out(),
           made_map(y_blocks(s, rounded(y)), widened(y_blocks(s, rounded(allowed))))}});
  }
  for (const bool bias : {false, true}) measured_forward(s, n, sums, magnitudes, rows, parts, bias, emit);
}

// Whether a number of a tile along one axis has part in an output, by the zeros of the matrices.
bool reaches(int64_t from, int64_t output) {
  for (int i = 0; i < 6; ++i)
    if (kB[i][from] != 0 && kA[output][i] != 0) return true;
  return false;
}

// NaN where a number of x that is none reaches.
void spread_nan(const Shape& s, const Floats& x, Doubles& y) {
  for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
    const int64_t ox = i / s.filters % s.out_width, oy = i / s.filters / s.out_width % s.out_height;
    const int64_t n = i / s.filters / s.out_width / s.out_height;
    for (int64_t r = 0; r < 6; ++r)
      for (int64_t t = 0; t < 6; ++t) {
        const int64_t iy = oy / 4 * 4 + r - s.top, ix = ox / 4 * 4 + t - s.left;
        if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
        if (!reaches(r, oy % 4) || !reaches(t, ox % 4)) continue;
        for (int64_t c = 0; c < s.depth; ++c)
          if (std::isnan(x[((n * s.height + iy) * s.width + ix) * s.depth + c])) y[i] = not_a_number();
      }
  }
}

// Winograd's convolution with 2×2 max pooling, on numbers that it keeps exact, so that equal ones stay equal
// and the largest is known: with weights that are multiples of 24², all transforms are whole numbers.
void pooled(const Shape& s, bool strange, int64_t rows, int64_t parts, Random& random, const Emit& emit) {
  Numbers n;
  n.x = random.whole(s.images * s.height * s.width * s.depth, 1);
  n.weight = random.whole(s.weights(), 1);
  for (float& w : n.weight) w = random.below(s.depth) < 3 ? 576 * w : 0;
  n.bias = random.whole(s.filters, 600);
  for (const double m : output_magnitudes(s, n))
    if (m + 600 >= 0x1p24) throw std::logic_error("sums that are too large to be exact");
  Floats packed = transformed(s, n.weight, false, false);
  for (float& u : packed) u = std::round(u);
  for (size_t i = 7; strange && i < n.x.size(); i += 97) n.x[i] = not_a_number();

  Doubles sums(s.images * s.out_height * s.out_width * s.filters);
  s.each([&](int64_t x, int64_t y, int64_t w) { sums[y] += static_cast<double>(n.x[x]) * n.weight[w]; });
  spread_nan(s, n.x, sums);
  const int64_t height = s.out_height / 2, width = s.out_width / 2;
  for (int kind = 0; kind < 8; ++kind) {
    const bool bias = kind & 1, relu = kind & 2, kept = kind & 4;
    Floats y(s.images * height * width * s.filters);
    std::vector<uint8_t> index(y.size());
    for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
      const int64_t k = i % s.filters, ox = i / s.filters % width * 2;
      const int64_t oy = i / s.filters / width % height * 2, image = i / s.filters / width / height;
      for (int64_t t = 0; t < 4; ++t) {
        const int64_t from = (image * s.out_height + oy + t / 2) * s.out_width + ox + t % 2;
        double value = sums[from * s.filters + k] + (bias ? n.bias[k] : 0.0);
        if (relu && value < 0) value = 0;
        if (t > 0 && !(value > y[i]) && !(std::isnan(value) && !std::isnan(y[i]))) continue;
        y[i] = static_cast<float>(value);
        index[i] = static_cast<uint8_t>(t);
      }
    }
    Words parameters = s.parameters(bias, relu, false, true);
    parameters.insert(parameters.end(), {rows, parts, kept});
    const auto laid = [&](const auto& plain) {
      return in_blocks(plain, s.images, s.block, height * width, s.filters);
    };
    emit({"winograd_pool",
          s.text() + counts(rows, parts) + (bias ? ", bias" : "") + (relu ? ", relu" : "") +
              (strange ? ", NaN" : ""),
          parameters,
          {given_map(x_blocks(s, n.x)), given(packed), bias ? given(n.bias) : left_out(), made_map(laid(y)),
           kept ? made_bytes(laid(index)) : left_out()}});
  }
}

// |Gᵀ|(Σ |Bᵀ||x||B| ⊙ |A||dy||Aᵀ|)|G| for every weight.
Doubles weight_magnitudes(const Shape& s, const Numbers& n) {
  Tiled v = input_magnitudes(s, n.x);
  Doubles q(36 * s.depth * s.filters), made(n.weight.size());
  for (int64_t tile = 0; tile < s.images * v.down * v.along; ++tile) {
    const int64_t image = tile / (v.down * v.along);
    const int64_t oy = tile / v.along % v.down * 4, ox = tile % v.along * 4;
    for (int64_t k = 0; k < s.filters; ++k) {
      double d[6][6];
      const auto read = [&](int i, int j) {
        if (oy + i >= s.out_height || ox + j >= s.out_width) return 0.0;
        return std::fabs(static_cast<double>(
            n.dy[((image * s.out_height + oy + i) * s.out_width + ox + j) * s.filters + k]));
      };
      both<6, 4>(entry_a, read, d);
      for (int p = 0; p < 36; ++p)
        for (int64_t c = 0; c < s.depth; ++c)
          q[(p * s.depth + c) * s.filters + k] += v.at(tile, p)[c] * d[p / 6][p % 6];
    }
  }
  for (int64_t c = 0; c < s.depth; ++c)
    for (int64_t k = 0; k < s.filters; ++k) {
      double w[3][3];
      both<3, 6>(entry_gt, [&](int i, int j) { return q[((i * 6 + j) * s.depth + c) * s.filters + k]; }, w);
      for (int t = 0; t < 9; ++t) made[(t * s.depth + c) * s.filters + k] = w[t / 3][t % 3];
    }
  return made;
}

void weight_grad(const Shape& s, const Numbers& n, int64_t rows, int64_t chunks, int64_t parts,
                 const Emit& emit) {
  Doubles dweight(n.weight.size()), dbias(n.bias.size()), bias_off(n.bias.size());
  s.each([&](int64_t x, int64_t y, int64_t w) { dweight[w] += static_cast<double>(n.x[x]) * n.dy[y]; });
  for (size_t i = 0; i < n.dy.size(); ++i) {
    dbias[i % s.filters] += n.dy[i];
    bias_off[i % s.filters] += std::fabs(n.dy[i]);
  }
  const int64_t tiles = (s.out_height + 3) / 4 * ((s.out_width + 3) / 4) * s.images;
  const double sums = static_cast<double>(tiles + chunks);
  Doubles weight_off = weight_magnitudes(s, n);
  for (double& m : weight_off) m *= rounding(kOfInput + kOfGradient + sums + kOfFilterGradient);
  // Tiles are summed up some at a time.
  for (double& m : bias_off) m *= rounding(kOfGradient + sums + static_cast<double>(tiles));
  for (const bool bias : {false, true}) {
    Words parameters = s.parameters(bias, false, false, true);
    parameters.insert(parameters.end(), {rows, chunks, parts});
    emit({"winograd_weight_grad",
          s.text() + counts(rows, parts) + ", chunks " + std::to_string(chunks) + (bias ? ", bias" : ""),
          parameters,
          {given_map(x_blocks(s, n.x)), given_map(y_blocks(s, n.dy)),
           workspace(chunks * ((chunks > 1 ? s.weights() : 0) + s.filters) * 4),
           made(rounded(dweight), weight_off), bias ? made(rounded(dbias), bias_off) : left_out()}});
  }
}

Numbers numbers(const Shape& s, Random& random, const Emit& emit) {
  Numbers n;
  n.x = emit.stored(random.real(s.images * s.height * s.width * s.depth, 1.0));
  n.weight = random.real(s.weights(), 1.0);
  n.bias = random.real(s.filters, 1.0);
  n.dy = emit.stored(random.real(s.images * s.out_height * s.out_width * s.filters, 1.0));
  n.gate = random.whole(static_cast<int64_t>(n.dy.size()), 1);
  n.gate[0] = not_a_number();  // that is no closed one
  return n;
}

}  // namespace

void winograd_cases(bool small, const Emit& emit) {
  Random random(9);
  const int64_t heights[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13}, widths[] = {1, 2, 3, 4, 5, 7, 8, 9};
  const int64_t depths[] = {1, 3, 16, 20, 33, 64}, filters[] = {1, 5, 32, 40, 65}, blocks[] = {16, 4, 1};
  const int64_t rows_at_once[] = {8, 16, 64};
  // Lists whose lengths are mostly coprime meet in ever new ways.
  for (int64_t i = 0; i < (small ? 24 : 150); ++i) {
    const int64_t block = blocks[i % 3], images = block * (1 + (block < 16 ? i / 3 % 3 : 0));
    Shape s{images, block, heights[i % 11], widths[i / 2 % 8], depths[i % 6], filters[i % 5], 3, 3,
            1,      1,     i % 3,           i / 3 % 3};
    if (i % 3 == 0 || s.height + 2 * s.top < 3) s.top = 1;
    if (s.width + 2 * s.left < 3) s.left = 1;
    if (i % 7 == 0) s.out_height = s.height;  // padding behind is as it may be
    if (i % 5 == 0) s.out_width = s.width + 2;
    s = s.whole();
    const Numbers n = numbers(s, random, emit);
    weights(s, n, emit);
    const int64_t rows = rows_at_once[i / 2 % 3];
    forward(s, n, rows, 1 + i % 3, emit);
    weight_grad(s, n, rows, 1 + i % 4, 1 + i / 4 % 3, emit);
    if (s.out_height > 1 && s.out_width > 1) pooled(s, i % 2 == 1, rows, 1 + i % 3, random, emit);
  }
}

std::vector<std::string> test_winograd_accuracy(int64_t* cases) {
  // Both steps on numbers of unit scale: how far the largest error lies below the largest output.
  constexpr double kMost = 2e-5;
  const Shape s = Shape{4, 4, 16, 16, 64, 64, 3, 3, 1, 1, 1, 1}.whole();
  Random random(10);
  const Floats x = random.real(s.images * s.height * s.width * s.depth, 1.0),
               weight = random.real(s.weights(), 1.0);
  Doubles y(s.images * s.out_height * s.out_width * s.filters);
  s.each([&](int64_t from, int64_t to, int64_t w) { y[to] += static_cast<double>(x[from]) * weight[w]; });
  const Doubles exact = widened(y_blocks(s, rounded(y)));
  Floats laid = x_blocks(s, x), given = weight, packed(36 * s.depth * s.filters), found(y.size());
  Words parameters = s.parameters(false, false, false, true);
  parameters.insert(parameters.end(), {64, 1});
  const std::vector<Floats*> memories{&given, &packed, &laid, &found};
  std::vector<hubel::Place> places;
  std::vector<int64_t> sizes;
  std::vector<void*> addresses;
  for (Floats* memory : memories) {
    sizes.push_back(static_cast<int64_t>(memory->size() * sizeof(float)));
    places.push_back({static_cast<int64_t>(places.size()), 0, sizes.back()});
    addresses.push_back(memory->data());
  }
  const hubel::Place none{-1, 0, 0};
  const std::vector<hubel::Step> steps{
      {"winograd_weights", {places[0], places[1]}, {9, s.depth, s.filters, 1, 0}},
      {"winograd", {places[2], places[1], none, none, places[3]}, parameters}};
  std::vector<std::string> failures;
  *cases = 0;
  for (int i = 0; i < hubel::kIsaCount; ++i) {
    if (!hubel::kIsas[i].available()) continue;
    ++*cases;
    hubel::Threads team(1);
    hubel::Program(*hubel::kIsas[i].table(), steps, sizes).run(addresses, team);
    double most = 0, off = 0;
    for (size_t k = 0; k < exact.size(); ++k) {
      most = std::max(most, std::fabs(exact[k]));
      off = std::max(off, std::fabs(exact[k] - found[k]));
    }
    if (!(off < kMost * most))
      failures.push_back(std::string(hubel::kIsas[i].name) + " is off by " +
                         std::to_string(1e6 * off / most) + " millionths of the largest output");
  }
  return failures;
}

}  // namespace selftest
