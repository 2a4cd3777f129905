// Pooling and its gradients against loops over plain (N, H, W, C) arrays.
#include "case.h"

namespace selftest {

namespace {

struct Shape {
  int64_t images, block, height, width, depth;
  int64_t out_height, out_width, rows, columns, stride_y, stride_x;
  int64_t top = 0, bottom = 0, left = 0, right = 0;

  bool wide() const { return rows * columns > 256; }
  int64_t x_size() const { return images * height * width * depth; }
  int64_t y_size() const { return images * out_height * out_width * depth; }

  Words parameters() const {
    return {images,  block,    height,   width, depth,  out_height, out_width, rows,
            columns, stride_y, stride_x, top,   bottom, left,       right,     wide()};
  }

  std::string text() const {
    std::string made;
    for (const int64_t value : parameters()) made += std::to_string(value) + " ";
    return made;
  }

  template <class T>
  std::vector<T> x_blocks(const std::vector<T>& plain) const {
    return in_blocks(plain, images, block, height * width, depth);
  }
  template <class T>
  std::vector<T> y_blocks(const std::vector<T>& plain) const {
    return in_blocks(plain, images, block, out_height * out_width, depth);
  }

  // Calls visit(x index, y index, position) for every place of the image that a window reads.
  template <class Visit>
  void each(const Visit& visit) const {
    for (int64_t n = 0; n < images; ++n)
      for (int64_t oy = 0; oy < out_height; ++oy)
        for (int64_t ox = 0; ox < out_width; ++ox)
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t s = 0; s < columns; ++s) {
              const int64_t iy = oy * stride_y + r - top, ix = ox * stride_x + s - left;
              if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
              for (int64_t c = 0; c < depth; ++c)
                visit(((n * height + iy) * width + ix) * depth + c,
                      ((n * out_height + oy) * out_width + ox) * depth + c, r * columns + s);
            }
  }
};

template <class Index>
void max_pool(const Shape& s, const Floats& x, const Floats& dy, const Floats& x_gate, const Floats& y_gate,
              const Emit& emit) {
  Floats y(s.y_size());
  std::vector<Index> index(s.y_size());
  std::vector<bool> started(s.y_size());
  s.each([&](int64_t from, int64_t to, int64_t position) {
    const bool first_nan = x[from] != x[from] && y[to] == y[to];
    if (started[to] && !(x[from] > y[to]) && !first_nan) return;
    started[to] = true;
    y[to] = x[from];
    index[to] = static_cast<Index>(position);
  });
  emit({"max_pool",
        s.text(),
        s.parameters(),
        {given_map(s.x_blocks(x)), made_map(s.y_blocks(y)), made_bytes(s.y_blocks(index))}});

  enum class Gate { kNone, kX, kY };
  for (const Gate gate : {Gate::kNone, Gate::kX, Gate::kY}) {
    Floats dx(s.x_size());
    s.each([&](int64_t to, int64_t from, int64_t position) {
      if (index[from] == position && !(gate == Gate::kY && y_gate[from] <= 0)) dx[to] += dy[from];
    });
    for (size_t i = 0; gate == Gate::kX && i < dx.size(); ++i)
      if (x_gate[i] <= 0) dx[i] = 0;
    Words parameters = s.parameters();
    parameters.insert(parameters.end(), {gate != Gate::kNone, gate == Gate::kY});
    const Operand gates[] = {left_out(), given_map(s.x_blocks(x_gate)), given_map(s.y_blocks(y_gate))};
    const char* const names[] = {"", "gate of x", "gate of y"};
    emit({"max_pool_grad",
          s.text() + names[static_cast<int>(gate)],
          parameters,
          {given_map(s.y_blocks(dy)), given_bytes(s.y_blocks(index)), gates[static_cast<int>(gate)],
           made_map(s.x_blocks(dx))}});
  }
}

// How many places a window covers on the image and its padding.
double area(const Shape& s, int64_t y_index) {
  const int64_t place = y_index / s.depth % (s.out_height * s.out_width);
  int64_t count = 0;
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t c = 0; c < s.columns; ++c) {
      const int64_t iy = place / s.out_width * s.stride_y + r, ix = place % s.out_width * s.stride_x + c;
      count += iy < s.height + s.top + s.bottom && ix < s.width + s.left + s.right;
    }
  return static_cast<double>(count);
}

void average_pool(const Shape& s, const Floats& x, const Floats& dy, const Emit& emit) {
  Doubles y(s.y_size()), y_off(s.y_size()), dx(s.x_size()), dx_off(s.x_size());
  s.each([&](int64_t from, int64_t to, int64_t) {
    y[to] += x[from];
    const double share = dy[to] / area(s, to);
    dx[from] += share;
    dx_off[from] += share < 0 ? -share : share;
  });
  // Whole numbers add up exactly; the share, the product and each further sum round.
  for (int64_t i = 0; i < s.y_size(); ++i) {
    y[i] /= area(s, i);
    y_off[i] = kEps * (y[i] < 0 ? -y[i] : y[i]);
  }
  for (double& off : dx_off) off *= kEps * 0.5 * (2.0 + static_cast<double>(s.rows * s.columns));
  emit({"average_pool",
        s.text(),
        s.parameters(),
        {given_map(s.x_blocks(x)), made_map(s.y_blocks(rounded(y)), s.y_blocks(y_off))}});
  emit({"average_pool_grad",
        s.text(),
        s.parameters(),
        {given_map(s.y_blocks(dy)), made_map(s.x_blocks(rounded(dx)), s.x_blocks(dx_off))}});
}

void all(const Shape& s, Random& random, const Emit& emit) {
  // Few different numbers, so that many are equal; and some that are none.
  Floats x = random.whole(s.x_size(), 4);
  const Floats dy = random.whole(s.y_size(), 9);
  Floats x_gate = random.whole(s.x_size(), 1), y_gate = random.whole(s.y_size(), 1);
  x_gate[0] = y_gate[0] = not_a_number();  // that is no closed one
  average_pool(s, x, dy, emit);
  for (const bool strange : {false, true}) {
    for (size_t i = 0; strange && i < x.size(); i += 5) x[i] = i % 2 == 0 ? not_a_number() : -infinity();
    if (s.wide())
      max_pool<uint16_t>(s, x, dy, x_gate, y_gate, emit);
    else
      max_pool<uint8_t>(s, x, dy, x_gate, y_gate, emit);
  }
}

}  // namespace

void pool_cases(bool small, const Emit& emit) {
  Random random(3);
  for (const int64_t block : {1, 2, 4, 8, 16})
    for (const int64_t depth : {1, 3, 8, 17, 33}) {
      const int64_t images = block * (depth == 3 ? 3 : 1);
      all({images, block, 6, 8, depth, 3, 4, 2, 2, 2, 2}, random, emit);
      all({images, block, 7, 9, depth, 3, 4, 3, 3, 2, 2}, random, emit);  // overlapping
      if (small) continue;
      all({images, block, 9, 10, depth, 3, 3, 2, 2, 3, 3}, random, emit);             // rows never read
      all({images, block, 5, 6, depth, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1}, random, emit);  // padding
      all({images, block, 8, 10, depth, 4, 5, 3, 3, 2, 2}, random, emit);             // hanging over
      all({images, block, 8, 7, depth, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1}, random, emit);
      all({images, block, 6, 7, depth, 3, 4, 3, 3, 2, 2, 0, 1, 1, 1}, random, emit);  // padding at the end
      all({images, block, 5, 6, depth, 3, 3, 3, 2, 1, 2}, random, emit);
      all({images, block, 5, 7, depth, 1, 1, 5, 7, 1, 1}, random, emit);  // the whole map
    }
  all({2, 2, 1, 1, 5, 1, 1, 1, 1, 1, 1}, random, emit);
  all({2, 1, 16, 16, 3, 1, 1, 16, 16, 1, 1}, random, emit);           // 256 positions
  all({2, 2, 17, 18, 3, 1, 2, 17, 17, 1, 1}, random, emit);           // more than a byte counts
  all({1, 1, 9, 9, 19, 3, 3, 9, 8, 4, 4, 4, 4, 4, 4}, random, emit);  // more than one window's worth
}

}  // namespace selftest
