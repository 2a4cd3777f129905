// What the tables of convolutions share: a convolution's shape, its sum as six loops over plain (N, H, W, C)
// arrays, and its numbers in the order in which kernels take them.
#pragma once

#include <cmath>

#include "case.h"

namespace selftest {

struct Shape {
  int64_t images, block;
  int64_t height, width, depth, filters;
  int64_t rows, columns;
  int64_t stride_y = 1, stride_x = 1, top = 0, left = 0, dilation_y = 1, dilation_x = 1, groups = 1;
  int64_t out_height = 0, out_width = 0;  // 0: as many whole windows as fit, with as much padding behind

  int64_t group_depth() const { return depth / groups; }
  int64_t group_filters() const { return filters / groups; }
  // Whether each group has as many filters as channels, and few of them.
  bool grouped() const {
    const int64_t each = group_depth();
    return filters == depth && (each == 1 || (8 % each == 0 && depth % 16 == 0));
  }
  int64_t weights() const { return rows * columns * group_depth() * filters; }

  // With the sizes of the output filled in.
  Shape whole() const {
    Shape s = *this;
    if (s.out_height == 0) s.out_height = (height + 2 * top - (rows - 1) * dilation_y - 1) / stride_y + 1;
    if (s.out_width == 0) s.out_width = (width + 2 * left - (columns - 1) * dilation_x - 1) / stride_x + 1;
    return s;
  }

  std::string text() const {
    const auto pair = [](int64_t a, int64_t b) { return std::to_string(a) + "×" + std::to_string(b); };
    return std::to_string(images) + " images in blocks of " + std::to_string(block) + ", " +
           pair(height, width) + "×" + std::to_string(depth) + " to " + pair(out_height, out_width) + "×" +
           std::to_string(filters) + ", window " + pair(rows, columns) + ", stride " +
           pair(stride_y, stride_x) + ", padding " + pair(top, left) + ", dilation " +
           pair(dilation_y, dilation_x) + ", groups " + std::to_string(groups);
  }

  Words parameters(bool bias, bool relu, bool gate, bool packed) const {
    return {images,     block,      height,  width,    depth,    out_height, out_width,
            filters,    rows,       columns, stride_y, stride_x, top,        left,
            dilation_y, dilation_x, groups,  bias,     relu,     gate,       packed};
  }

  // Calls visit(x index, y index, weight index) for every product of the convolution.
  template <class Visit>
  void each(const Visit& visit) const {
    for (int64_t n = 0; n < images; ++n)
      for (int64_t oy = 0; oy < out_height; ++oy)
        for (int64_t ox = 0; ox < out_width; ++ox)
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t s = 0; s < columns; ++s) {
              const int64_t iy = oy * stride_y + r * dilation_y - top;
              const int64_t ix = ox * stride_x + s * dilation_x - left;
              if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
              for (int64_t k = 0; k < filters; ++k)
                for (int64_t c = 0; c < group_depth(); ++c)
                  visit(((n * height + iy) * width + ix) * depth + k / group_filters() * group_depth() + c,
                        ((n * out_height + oy) * out_width + ox) * filters + k,
                        ((r * columns + s) * group_depth() + c) * filters + k);
            }
  }
};

// Weights in panels of 32 columns, `taps` of them, each `inner` by `columns`: [panel][tap][inner][32], with
// zeros past the last column.
template <class At>
void add_panels(int64_t taps, int64_t inner, int64_t columns, const At& at, Floats& packed) {
  for (int64_t start = 0; start < columns; start += 32)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t i = 0; i < inner; ++i)
        for (int64_t j = start; j < start + 32; ++j) packed.push_back(j < columns ? at(t, i, j) : 0.0f);
}

// A convolution's weights as it reads them, group by group; backward with depth and filters exchanged.
inline Floats panels(const Shape& s, const Floats& weight, bool backward) {
  Floats packed;
  for (int64_t g = 0; g < s.groups; ++g)
    add_panels(
        s.rows * s.columns, backward ? s.group_filters() : s.group_depth(),
        backward ? s.group_depth() : s.group_filters(),
        [&](int64_t t, int64_t i, int64_t j) {
          const int64_t c = backward ? j : i, k = g * s.group_filters() + (backward ? i : j);
          return weight[(t * s.group_depth() + c) * s.filters + k];
        },
        packed);
  return packed;
}

// The same in pairs: numbers of two neighbouring rows of a panel side by side.
inline Floats paired(const Floats& packed) {
  Floats made(packed.size());
  for (size_t at = 0; at < packed.size(); ++at) {
    const size_t row = at / 32, column = at % 32;
    made[row / 2 * 64 + 2 * column + row % 2] = packed[at];
  }
  return made;
}

struct Numbers {
  Floats x, weight, bias, dy, gate;
};

inline Floats x_blocks(const Shape& s, const Floats& plain) {
  return in_blocks(plain, s.images, s.block, s.height * s.width, s.depth);
}

inline Floats y_blocks(const Shape& s, const Floats& plain) {
  return in_blocks(plain, s.images, s.block, s.out_height * s.out_width, s.filters);
}

// How far `roundings` of them, one after another, may move a number from terms of this magnitude: n·u/(1 −
// n·u) of it, with u half the distance of 1 and the next float (Higham, "Accuracy and Stability of Numerical
// Algorithms", 2002, lemma 3.1).
inline double rounding(double roundings) {
  const double all = 0.5 * kEps * roundings;
  return all / (1.0 - all);
}

}  // namespace selftest
