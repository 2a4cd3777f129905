// Batch normalisation against its definition in double.
// The bounds follow the roundings of sums, kSum, through the formulas.
#include <cmath>

#include "case.h"

namespace selftest {

namespace {

int64_t sums_bytes(int64_t rows, int64_t depth) {
  const int64_t parts = rows * depth / 32768;
  return ((parts < 1 ? 1 : parts > 64 ? 64 : parts) * 2 + 2) * depth * 8;
}

Doubles positive(Doubles values) {
  for (double& value : values) value = value > 0 ? value : 0;
  return values;
}

struct Statistics {
  double mean = 0, variance = 0, inverse = 0;
  double mean_off = 0, variance_off = 0, inverse_off = 0;
};

Statistics statistics(const Floats& x, int64_t rows, int64_t depth, int64_t c, double epsilon) {
  const double count = static_cast<double>(rows), pivot = x[c];
  Statistics s;
  double from_pivot = 0, squares = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const double value = x[row * depth + c];
    s.mean += value / count;
    from_pivot += std::fabs(value - pivot) / count;
    squares += (value - pivot) * (value - pivot) / count;
  }
  for (int64_t row = 0; row < rows; ++row) {
    const double d = x[row * depth + c] - s.mean;
    s.variance += d * d / count;
  }
  s.inverse = 1 / std::sqrt(s.variance + epsilon);
  const double shift_off = kSum * from_pivot;
  s.mean_off = shift_off + kUnit * std::fabs(s.mean);
  s.variance_off = kSum * squares + 2 * std::fabs(s.mean - pivot) * shift_off + shift_off * shift_off;
  s.inverse_off = 0.5 * std::pow(s.inverse, 3) * s.variance_off + kUnit * s.inverse;
  return s;
}

// What batch normalisation makes of x, and how far each number may be off.
struct Normalised {
  Doubles y, y_off, mean, mean_off, inverse, inverse_off, new_mean, new_mean_off, new_var, new_var_off;
};

struct Given {
  double epsilon = 1e-5, momentum = 0.1;
  Floats weight, bias, old_mean, old_var;

  Given(int64_t depth, Random& random)
      : weight(random.real(depth, 1.5)),
        bias(random.real(depth, 1.5)),
        old_mean(random.real(depth, 1.0)),
        old_var(random.real(depth, 1.0)) {}
};

Normalised normalised(const Floats& x, int64_t rows, int64_t depth, const Given& given) {
  const double count = static_cast<double>(rows), momentum = given.momentum;
  Normalised made;
  made.y.resize(x.size());
  made.y_off.resize(x.size());
  for (int64_t c = 0; c < depth; ++c) {
    const Statistics s = statistics(x, rows, depth, c, given.epsilon);
    made.mean.push_back(s.mean);
    made.mean_off.push_back(s.mean_off);
    made.inverse.push_back(s.inverse);
    made.inverse_off.push_back(s.inverse_off);
    const double unbiased = rows > 1 ? s.variance * count / (count - 1) : s.variance;
    made.new_mean.push_back(given.old_mean[c] + momentum * (s.mean - given.old_mean[c]));
    made.new_mean_off.push_back(momentum * s.mean_off + kUnit * (std::fabs(made.new_mean[c]) + 1e-6));
    made.new_var.push_back(given.old_var[c] + momentum * (unbiased - given.old_var[c]));
    made.new_var_off.push_back(2 * momentum * s.variance_off + kUnit * (std::fabs(made.new_var[c]) + 1e-6));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t i = row * depth + c;
      const double d = x[i] - s.mean, weight = given.weight[c], bias = given.bias[c];
      made.y[i] = weight * d * s.inverse + bias;
      made.y_off[i] = std::fabs(weight) * (s.inverse * (s.mean_off + kUnit * std::fabs(d)) +
                                           std::fabs(d) * (s.inverse_off + kUnit * s.inverse)) +
                      4 * kUnit * (std::fabs(weight * d * s.inverse) + std::fabs(bias));
    }
  }
  return made;
}

// How many rows there are in each of `parts` parts, their mean and the squares about it, as
// [part][3][channel].
Doubles moments(const Floats& x, int64_t rows, int64_t depth, int64_t parts) {
  Doubles made(parts * 3 * depth);
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t c = 0; c < depth; ++c) {
      double* const of = &made[part * 3 * depth + c];
      const int64_t first = rows * part / parts, last = rows * (part + 1) / parts;
      of[0] = static_cast<double>(last - first);
      for (int64_t row = first; row < last; ++row) of[depth] += x[row * depth + c] / of[0];
      for (int64_t row = first; row < last; ++row) {
        const double d = x[row * depth + c] - of[depth];
        of[2 * depth] += d * d;
      }
    }
  return made;
}

Operand moved(bool update, const Floats& before, const Doubles& after, const Doubles& off) {
  return update ? changed(before, rounded(after), off) : left_out();
}

void training(int64_t rows, int64_t depth, double centre, Random& random, const Emit& emit) {
  Floats x = random.real(rows * depth, 2.0);
  for (float& value : x) value += static_cast<float>(centre);
  x = emit.stored(x);
  const Given g(depth, random);
  const Normalised n = normalised(x, rows, depth, g);
  const Floats added = emit.stored(random.real(rows * depth, 2.0));
  Doubles sum = n.y, sum_off = n.y_off;
  for (size_t i = 0; i < sum.size(); ++i) {
    sum[i] += added[i];
    sum_off[i] += kUnit * std::fabs(sum[i]);
  }
  for (int kind = 0; kind < 4; ++kind) {
    const bool update = kind % 2 != 0, other = kind / 2 != 0, relu = update == other;
    const Doubles& wanted = other ? sum : n.y;
    const int64_t parts = kind == 3 ? (rows < 3 ? rows : 3) : 0;
    emit({"batch_norm",
          std::to_string(rows) + " rows of " + std::to_string(depth) + " about " + std::to_string(centre) +
              (other ? ", added" : "") + (relu ? ", relu" : ""),
          {rows, depth, word(g.epsilon), word(g.momentum), update, relu, other, parts},
          {given_map(x), given(g.weight), given(g.bias), other ? given_map(added) : left_out(),
           parts ? given(moments(x, rows, depth, parts)) : left_out(),
           moved(update, g.old_mean, n.new_mean, n.new_mean_off),
           moved(update, g.old_var, n.new_var, n.new_var_off),
           made_map(rounded(relu ? positive(wanted) : wanted), other ? sum_off : n.y_off),
           made(rounded(n.mean), n.mean_off), made(rounded(n.inverse), n.inverse_off),
           workspace(sums_bytes(rows, depth))}});
  }
}

void inference(int64_t rows, int64_t depth, Random& random, const Emit& emit) {
  const double epsilon = 1e-3;
  const Floats x = emit.stored(random.real(rows * depth, 2.0)), weight = random.real(depth, 1.5);
  const Floats bias = random.real(depth, 1.5), mean = random.real(depth, 1.0);
  Floats variance = random.real(depth, 1.0);
  for (float& value : variance) value = std::fabs(value) + 0.1f;
  Doubles y(x.size()), off(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % weight.size();
    const double scale = weight[c] / std::sqrt(variance[c] + epsilon);
    y[i] = (x[i] - mean[c]) * scale + bias[c];
    off[i] = 4 * kUnit * (std::fabs(x[i] * scale) + std::fabs(mean[c] * scale) + std::fabs(bias[c]));
  }
  for (const bool relu : {false, true})
    emit({"batch_norm_apply",
          std::to_string(rows) + " rows of " + std::to_string(depth),
          {rows, depth, word(epsilon), word(0.1), 0, relu, 0, 0},
          {given_map(x), given(weight), given(bias), given(mean), given(variance),
           made_map(rounded(relu ? positive(y) : y), off), workspace(2 * depth * 4)}});
  Doubles dx(x.size()), dx_off(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % weight.size();
    dx[i] = x[i] * weight[c] / std::sqrt(variance[c] + epsilon);
    dx_off[i] = 3 * kUnit * std::fabs(dx[i]);
  }
  emit({"batch_norm_apply_grad",
        std::to_string(rows) + " rows of " + std::to_string(depth),
        {rows, depth, word(epsilon)},
        {given_map(x), given(weight), given(variance), made_map(rounded(dx), dx_off), workspace(depth * 4)}});
}

// The gradients of a normalisation by its definition, from dy as it is behind the ReLU, and how far they may
// be off.
struct Gradients {
  Doubles dx, dx_off, dweight, dweight_off, dbias, dbias_off;
};

struct Kept {
  Floats weight, bias, mean, inverse;

  Kept(int64_t depth, Random& random)
      : weight(random.real(depth, 1.5)),
        bias(random.real(depth, 1.5)),
        mean(random.real(depth, 1.0)),
        inverse(random.real(depth, 1.0)) {
    for (float& value : inverse) value = std::fabs(value) + 0.5f;
  }
  // As floats are rounded: which side of zero a number lies on may hang on it.
  float normal(float x, int64_t c) const { return (x - mean[c]) * (inverse[c] * weight[c]) + bias[c]; }
};

Gradients gradients(const Floats& x, const Floats& dy, int64_t rows, int64_t depth, const Kept& k) {
  const double count = static_cast<double>(rows);
  Gradients made;
  made.dx.resize(x.size());
  made.dx_off.resize(x.size());
  for (int64_t c = 0; c < depth; ++c) {
    double one = 0, two = 0, one_size = 0, two_size = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t i = row * depth + c;
      const double normal = (x[i] - static_cast<double>(k.mean[c])) * k.inverse[c];
      one += dy[i];
      two += dy[i] * normal;
      one_size += std::fabs(dy[i]);
      two_size += std::fabs(dy[i] * normal);
    }
    made.dbias.push_back(one);
    made.dweight.push_back(two);
    made.dbias_off.push_back(kSum * one_size);
    made.dweight_off.push_back(kSum * two_size);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t i = row * depth + c;
      const double normal = (x[i] - static_cast<double>(k.mean[c])) * k.inverse[c];
      const double factor = k.weight[c] * static_cast<double>(k.inverse[c]);
      made.dx[i] = factor * (dy[i] - one / count - normal * two / count);
      const double terms = std::fabs(dy[i]) + std::fabs(one) / count + std::fabs(normal * two) / count;
      made.dx_off[i] = std::fabs(factor) * (10 * kUnit * terms + kSum * one_size / count +
                                            std::fabs(normal) * kSum * two_size / count);
    }
  }
  return made;
}

void gradient(int64_t rows, int64_t depth, bool relu, Random& random, const Emit& emit) {
  const Floats x = emit.stored(random.real(rows * depth, 2.0));
  const Floats given_dy = emit.stored(random.real(rows * depth, 2.0));
  const Kept k(depth, random);
  Floats dy = given_dy;
  for (size_t i = 0; relu && i < dy.size(); ++i)
    if (k.normal(x[i], static_cast<int64_t>(i) % depth) <= 0) dy[i] = 0;
  const Gradients g = gradients(x, dy, rows, depth, k);
  emit({"batch_norm_grad",
        std::to_string(rows) + " rows of " + std::to_string(depth) + (relu ? " with a ReLU" : ""),
        {rows, depth, relu},
        {given_map(x), given_map(given_dy), given(k.weight), relu ? given(k.bias) : left_out(), given(k.mean),
         given(k.inverse), made_map(rounded(g.dx), g.dx_off), made(rounded(g.dweight), g.dweight_off),
         made(rounded(g.dbias), g.dbias_off), workspace(sums_bytes(rows, depth))}});
}

// Maps whose 2×2 windows are pooled behind the normalisation, plain (N, H, W, C).
struct Windows {
  int64_t images, block, height, width, depth;

  int64_t rows() const { return images * height * width; }
  int64_t out_rows() const { return images * (height / 2) * (width / 2); }
  template <class T>
  std::vector<T> x_blocks(const std::vector<T>& plain) const {
    return in_blocks(plain, images, block, height * width, depth);
  }
  template <class T>
  std::vector<T> y_blocks(const std::vector<T>& plain) const {
    return in_blocks(plain, images, block, (height / 2) * (width / 2), depth);
  }
  // Calls visit(index of y, channel, the four indices of x) for every window and channel.
  template <class Visit>
  void each(const Visit& visit) const {
    for (int64_t n = 0; n < images; ++n)
      for (int64_t oy = 0; oy < height / 2; ++oy)
        for (int64_t ox = 0; ox < width / 2; ++ox)
          for (int64_t c = 0; c < depth; ++c) {
            int64_t from[4];
            for (int64_t t = 0; t < 4; ++t)
              from[t] = ((n * height + 2 * oy + t / 2) * width + 2 * ox + t % 2) * depth + c;
            visit(((n * (height / 2) + oy) * (width / 2) + ox) * depth + c, c, from);
          }
  }
  std::string text() const {
    return std::to_string(images) + " maps, " + std::to_string(block) + " a block, of " +
           std::to_string(height) + "x" + std::to_string(width) + "x" + std::to_string(depth);
  }
};

// Numbers of x are whole, so that two of a window are alike or far apart.
void pooled(const Windows& w, bool relu, Random& random, const Emit& emit) {
  const Floats x = random.whole(w.rows() * w.depth, 9);
  const Given g(w.depth, random);
  const Normalised n = normalised(x, w.rows(), w.depth, g);
  Doubles y(w.out_rows() * w.depth), y_off(y.size());
  Floats peak(y.size());
  const Doubles made_y = relu ? positive(n.y) : n.y;
  w.each([&](int64_t to, int64_t, const int64_t (&from)[4]) {
    int64_t best = from[0];
    for (const int64_t i : from)
      if (made_y[i] > made_y[best]) best = i;
    y[to] = made_y[best];
    y_off[to] = n.y_off[best];
    peak[to] = x[best];
  });
  for (const bool update : {false, true})
    emit({"batch_norm_pool",
          w.text() + (relu ? ", relu" : ""),
          {w.images, w.block, w.height, w.width, w.depth, word(g.epsilon), word(g.momentum), update, relu,
           update, update ? 2 : 0},
          {given_map(w.x_blocks(x)), given(g.weight), given(g.bias),
           update ? given(moments(x, w.rows(), w.depth, 2)) : left_out(),
           moved(update, g.old_mean, n.new_mean, n.new_mean_off),
           moved(update, g.old_var, n.new_var, n.new_var_off),
           made_map(w.y_blocks(rounded(y)), w.y_blocks(y_off)),
           update ? made_map(w.y_blocks(peak)) : left_out(), made(rounded(n.mean), n.mean_off),
           made(rounded(n.inverse), n.inverse_off), workspace(sums_bytes(w.rows(), w.depth))}});
}

void pooled_gradient(const Windows& w, bool relu, Random& random, const Emit& emit) {
  const Floats x = random.whole(w.rows() * w.depth, 3);  // many of a window are alike
  const Kept k(w.depth, random);
  const Floats given_dy = emit.stored(random.real(w.out_rows() * w.depth, 2.0));
  Floats peak(given_dy.size()), dy(x.size());
  w.each([&](int64_t at, int64_t c, const int64_t (&from)[4]) {
    const auto made = [&](int64_t i) {
      const float normal = k.normal(x[i], c);
      return relu && normal <= 0 ? 0.0f : normal;
    };
    int64_t best = from[0];
    for (const int64_t i : from)
      if (made(i) > made(best)) best = i;
    peak[at] = x[best];
    if (!relu || made(best) > 0) dy[best] = given_dy[at];
  });
  const Gradients g = gradients(x, dy, w.rows(), w.depth, k);
  emit({"batch_norm_pool_grad",
        w.text() + (relu ? ", relu" : ""),
        {w.images, w.block, w.height, w.width, w.depth, relu},
        {given_map(w.x_blocks(x)), given_map(w.y_blocks(peak)), given_map(w.y_blocks(given_dy)),
         given(k.weight), given(k.bias), given(k.mean), given(k.inverse),
         made_map(w.x_blocks(rounded(g.dx)), w.x_blocks(g.dx_off)), made(rounded(g.dweight), g.dweight_off),
         made(rounded(g.dbias), g.dbias_off), workspace(sums_bytes(w.out_rows(), w.depth))}});
}

// The weights and the bias of a convolution with the normalisation behind it folded in.
void folded(int64_t rows, int64_t depth, Random& random, const Emit& emit) {
  const double epsilon = 1e-3;
  const Floats weight = random.real(rows * depth, 2.0), bias = random.real(depth, 1.5);
  const Floats scale = random.real(depth, 1.5), offset = random.real(depth, 1.5),
               mean = random.real(depth, 1.0);
  Floats variance = random.real(depth, 1.0);
  for (float& value : variance) value = std::fabs(value);
  variance[0] = 0;
  for (const bool has_bias : {false, true}) {
    Doubles made_weight(weight.size()), shift(depth);
    for (int64_t c = 0; c < depth; ++c) {
      const double factor = scale[c] / std::sqrt(variance[c] + epsilon);
      for (int64_t row = 0; row < rows; ++row)
        made_weight[row * depth + c] = weight[row * depth + c] * factor;
      shift[c] = ((has_bias ? bias[c] : 0.0) - mean[c]) * factor + offset[c];
    }
    // Worked out in double, so that the last rounding is all there is to see.
    const Doubles nothing_more(weight.size()), nor_here(shift.size());
    emit({"fold_norm",
          std::to_string(rows) + " rows of " + std::to_string(depth) + (has_bias ? ", bias" : ""),
          {rows, depth, word(epsilon), has_bias},
          {given(weight), has_bias ? given(bias) : left_out(), given(scale), given(offset), given(mean),
           given(variance), made(rounded(made_weight), nothing_more), made(rounded(shift), nor_here)}});
  }
}

}  // namespace

void norm_cases(bool small, const Emit& emit) {
  Random random(5);
  for (const int64_t depth : {1, 3, 17, 64, 65, 130})
    for (const int64_t rows : {1, 2, 31, 33, small ? 40 : 3000}) {
      training(rows, depth, 0.0, random, emit);
      inference(rows, depth, random, emit);
      folded(rows, depth, random, emit);
      for (const bool relu : {false, true}) gradient(rows, depth, relu, random, emit);
    }
  const Windows windows[] = {{1, 1, 2, 2, 1},   {4, 4, 5, 4, 3},    {32, 16, 4, 6, 17}, {2, 2, 3, 3, 64},
                             {6, 2, 2, 5, 130}, {16, 16, 8, 7, 32}, {3, 1, 6, 6, 16},   {48, 16, 12, 12, 8}};
  for (const Windows& shape : windows)
    for (const bool relu : {false, true}) {
      pooled(shape, relu, random, emit);
      pooled_gradient(shape, relu, random, emit);
    }
  training(100, 5, 1000.0, random, emit);  // a mean that is large costs no digits
  training(small ? 50 : 2000, 3, -300.0, random, emit);
}

}  // namespace selftest
