// Layer and group normalisation against their definition in double. The bounds follow the roundings of sums,
// kSum, through the formulas.
#include <cmath>

#include "case.h"

namespace selftest {

namespace {

// Maps whose images are normalised in groups of channels, plain (N, H, W, C).
struct Grouped {
  int64_t images, block, height, width, depth, groups;

  int64_t pixels() const { return height * width; }
  int64_t size() const { return images * pixels() * depth; }
  int64_t each() const { return depth / groups; }
  int64_t workspace_bytes(int64_t factors) const {
    const int64_t parts = pixels() * block * depth / 32768;
    return images * depth * ((parts < 1 ? 1 : parts > 64 ? 64 : parts) * 16 + factors * 4);
  }
  template <class T>
  std::vector<T> blocks(const std::vector<T>& plain) const {
    return in_blocks(plain, images, block, pixels(), depth);
  }
  // Calls visit(index, channel) for every number of a group.
  template <class Visit>
  void numbers(int64_t group, const Visit& visit) const {
    for (int64_t i = 0; i < pixels(); ++i)
      for (int64_t c = group % groups * each(); c < (group % groups + 1) * each(); ++c)
        visit(((group / groups) * pixels() + i) * depth + c, c);
  }
  std::string text() const {
    return std::to_string(images) + " maps, " + std::to_string(block) + " a block, of " +
           std::to_string(height) + "x" + std::to_string(width) + "x" + std::to_string(depth) + " in " +
           std::to_string(groups) + " groups";
  }
  std::vector<int64_t> words() const { return {images, block, height, width, depth, groups, word(1e-5)}; }
};

// Each column is summed about its own first number; `pivot` is how far numbers lie from that.
void grouped(const Grouped& w, double centre, Random& random, const Emit& emit) {
  Floats x = random.real(w.size(), 2.0);
  for (float& value : x) value += static_cast<float>(centre);
  x = emit.stored(x);
  const Floats weight = random.real(w.depth, 1.5), bias = random.real(w.depth, 1.5);
  Doubles y(x.size()), y_off(x.size()), means, mean_offs, inverses, inverse_offs;
  const double count = static_cast<double>(w.pixels() * w.each());
  for (int64_t group = 0; group < w.images * w.groups; ++group) {
    double mean = 0, variance = 0, from_pivot = 0, squares = 0;
    w.numbers(group, [&](int64_t i, int64_t c) {
      const double d = x[i] - static_cast<double>(x[group / w.groups * w.pixels() * w.depth + c]);
      mean += x[i] / count;
      from_pivot += std::fabs(d) / count;
      squares += d * d / count;
    });
    double furthest = 0;
    w.numbers(group, [&](int64_t i, int64_t c) {
      variance += (x[i] - mean) * (x[i] - mean) / count;
      const double pivot = x[group / w.groups * w.pixels() * w.depth + c];
      furthest = std::fmax(furthest, std::fabs(pivot - mean));
    });
    const double shift_off = kSum * from_pivot;
    const double inverse = 1 / std::sqrt(variance + 1e-5);
    // Of each column: its squares, and twice its sum's error where that is multiplied by its mean.
    const double variance_off = kSum * squares + 4 * furthest * shift_off + shift_off * shift_off;
    const double mean_off = shift_off + kUnit * std::fabs(mean);
    const double inverse_off = 0.5 * std::pow(inverse, 3) * variance_off + kUnit * inverse;
    means.push_back(mean);
    mean_offs.push_back(mean_off);
    inverses.push_back(inverse);
    inverse_offs.push_back(inverse_off);
    w.numbers(group, [&](int64_t i, int64_t c) {
      const double d = x[i] - mean, scale = std::fabs(weight[c]);
      y[i] = weight[c] * d * inverse + bias[c];
      y_off[i] = scale * (inverse * (mean_off + kUnit * std::fabs(d)) +
                          std::fabs(d) * (inverse_off + kUnit * inverse)) +
                 4 * kUnit * (std::fabs(y[i]) + std::fabs(bias[c]));
    });
  }
  emit({"group_norm",
        w.text() + " about " + std::to_string(centre),
        w.words(),
        {given_map(w.blocks(x)), given(weight), given(bias), made_map(w.blocks(rounded(y)), w.blocks(y_off)),
         made(rounded(means), mean_offs), made(rounded(inverses), inverse_offs),
         workspace(w.workspace_bytes(3))}});
}

void grouped_gradient(const Grouped& w, Random& random, const Emit& emit) {
  const Floats x = emit.stored(random.real(w.size(), 2.0)), dy = emit.stored(random.real(w.size(), 2.0));
  const Floats weight = random.real(w.depth, 1.5), mean = random.real(w.images * w.groups, 1.0);
  Floats inverse = random.real(w.images * w.groups, 1.0);
  for (float& value : inverse) value = std::fabs(value) + 0.5f;
  Doubles dx(x.size()), dx_off(x.size());
  Doubles dweight(w.depth), dweight_off(w.depth), dbias(w.depth), dbias_off(w.depth);
  const double count = static_cast<double>(w.pixels() * w.each());
  for (int64_t group = 0; group < w.images * w.groups; ++group) {
    const double centre = mean[group], spread = inverse[group];
    double flat = 0, steep = 0, flat_size = 0, steep_size = 0;
    w.numbers(group, [&](int64_t i, int64_t c) {
      const double normal = (x[i] - centre) * spread, own = dy[i], slope = weight[c] * own;
      flat += slope / count;
      steep += slope * normal / count;
      flat_size += std::fabs(slope) / count;
      steep_size += std::fabs(slope * normal) / count;
      dbias[c] += own;
      dweight[c] += own * normal;
      dbias_off[c] += kSum * std::fabs(own);
      dweight_off[c] += kSum * std::fabs(own * normal);
    });
    w.numbers(group, [&](int64_t i, int64_t c) {
      const double normal = (x[i] - centre) * spread, own = weight[c] * static_cast<double>(dy[i]);
      dx[i] = spread * (own - flat - normal * steep);
      const double terms = std::fabs(own) + std::fabs(flat) + std::fabs(normal * steep);
      dx_off[i] = spread * (10 * kUnit * terms + kSum * flat_size + std::fabs(normal) * kSum * steep_size);
    });
  }
  emit({"group_norm_grad",
        w.text(),
        w.words(),
        {given_map(w.blocks(x)), given_map(w.blocks(dy)), given(weight), given(mean), given(inverse),
         made_map(w.blocks(rounded(dx)), w.blocks(dx_off)), made(rounded(dweight), dweight_off),
         made(rounded(dbias), dbias_off), workspace(w.workspace_bytes(5))}});
}

}  // namespace

void group_norm_cases(bool, const Emit& emit) {
  Random random(16);
  const Grouped shapes[] = {{1, 1, 1, 3, 1, 1},    {3, 1, 5, 4, 6, 3},    {32, 16, 4, 6, 17, 1},
                            {4, 4, 1, 1, 20, 4},   {6, 2, 2, 5, 130, 2},  {16, 16, 8, 7, 32, 8},
                            {2, 2, 40, 36, 33, 3}, {1, 1, 32, 32, 16, 16}};
  for (const Grouped& shape : shapes) {
    grouped(shape, 0.0, random, emit);
    grouped_gradient(shape, random, emit);
  }
  grouped(shapes[2], 1000.0, random, emit);
}

}  // namespace selftest
