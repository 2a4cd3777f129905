// Batch normalisation against its definition in double.
//
// Rounding, in units of u = ½ eps: a sum of numbers d in runs of 32 floats is off by at most 33u·Σ|d| and
// one product in each term adds u more; the bounds below follow these errors through the formulas.
#include <cmath>

#include "case.h"

namespace selftest {

namespace {

constexpr double kUnit = 0.5 * kEps;
constexpr double kSum = 40 * kUnit;  // of Σ|d|, with the roundings of each term

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

void training(int64_t rows, int64_t depth, double centre, Random& random, const Emit& emit) {
  const double epsilon = 1e-5, momentum = 0.1, count = static_cast<double>(rows);
  Floats x = random.real(rows * depth, 2.0);
  for (float& value : x) value += static_cast<float>(centre);
  x = emit.stored(x);
  const Floats weight = random.real(depth, 1.5), bias = random.real(depth, 1.5);
  const Floats old_mean = random.real(depth, 1.0), old_var = random.real(depth, 1.0);
  Doubles y(x.size()), y_off(x.size()), mean, mean_off, inverse, inverse_off;
  Doubles new_mean, new_mean_off, new_var, new_var_off;
  for (int64_t c = 0; c < depth; ++c) {
    const Statistics s = statistics(x, rows, depth, c, epsilon);
    mean.push_back(s.mean);
    mean_off.push_back(s.mean_off);
    inverse.push_back(s.inverse);
    inverse_off.push_back(s.inverse_off);
    const double unbiased = rows > 1 ? s.variance * count / (count - 1) : s.variance;
    new_mean.push_back(old_mean[c] + momentum * (s.mean - old_mean[c]));
    new_mean_off.push_back(momentum * s.mean_off + kUnit * (std::fabs(new_mean[c]) + 1e-6));
    new_var.push_back(old_var[c] + momentum * (unbiased - old_var[c]));
    new_var_off.push_back(2 * momentum * s.variance_off + kUnit * (std::fabs(new_var[c]) + 1e-6));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t i = row * depth + c;
      const double d = x[i] - s.mean, w = std::fabs(weight[c]);
      y[i] = weight[c] * d * s.inverse + bias[c];
      y_off[i] = w * (s.inverse * (s.mean_off + kUnit * std::fabs(d)) +
                      std::fabs(d) * (s.inverse_off + kUnit * s.inverse)) +
                 4 * kUnit * (std::fabs(weight[c] * d * s.inverse) + std::fabs(bias[c]));
    }
  }
  const Floats added = emit.stored(random.real(rows * depth, 2.0));
  Doubles sum = y, sum_off = y_off;
  for (size_t i = 0; i < sum.size(); ++i) {
    sum[i] += added[i];
    sum_off[i] += kUnit * std::fabs(sum[i]);
  }
  for (int kind = 0; kind < 4; ++kind) {
    const bool update = kind % 2 != 0, other = kind / 2 != 0, relu = update == other;
    const Doubles& wanted = other ? sum : y;
    emit({"batch_norm",
          std::to_string(rows) + " rows of " + std::to_string(depth) + " about " + std::to_string(centre) +
              (other ? ", added" : "") + (relu ? ", relu" : ""),
          {rows, depth, word(epsilon), word(momentum), update, relu, other},
          {given_map(x), given(weight), given(bias), other ? given_map(added) : left_out(),
           update ? changed(old_mean, rounded(new_mean), new_mean_off) : left_out(),
           update ? changed(old_var, rounded(new_var), new_var_off) : left_out(),
           made_map(rounded(relu ? positive(wanted) : wanted), other ? sum_off : y_off),
           made(rounded(mean), mean_off), made(rounded(inverse), inverse_off),
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
          {rows, depth, word(epsilon), word(0.1), 0, relu, 0},
          {given_map(x), given(weight), given(bias), given(mean), given(variance),
           made_map(rounded(relu ? positive(y) : y), off), workspace(2 * depth * 4)}});
}

void gradient(int64_t rows, int64_t depth, bool gated, Random& random, const Emit& emit) {
  const Floats x = emit.stored(random.real(rows * depth, 2.0));
  const Floats given_dy = emit.stored(random.real(rows * depth, 2.0));
  Floats gate = random.whole(rows * depth, 1), dy = given_dy;
  gate[0] = not_a_number();  // that is no closed one
  for (size_t i = 0; gated && i < dy.size(); ++i)
    if (gate[i] <= 0) dy[i] = 0;
  const Floats weight = random.real(depth, 1.5), mean = random.real(depth, 1.0);
  Floats inverse = random.real(depth, 1.0);
  for (float& value : inverse) value = std::fabs(value) + 0.5f;
  const double count = static_cast<double>(rows);
  Doubles dx(x.size()), dx_off(x.size()), dweight, dweight_off, dbias, dbias_off;
  for (int64_t c = 0; c < depth; ++c) {
    double one = 0, two = 0, one_size = 0, two_size = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t i = row * depth + c;
      const double normal = (x[i] - static_cast<double>(mean[c])) * inverse[c];
      one += dy[i];
      two += dy[i] * normal;
      one_size += std::fabs(dy[i]);
      two_size += std::fabs(dy[i] * normal);
    }
    dbias.push_back(one);
    dweight.push_back(two);
    dbias_off.push_back(kSum * one_size);
    dweight_off.push_back(kSum * two_size);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t i = row * depth + c;
      const double normal = (x[i] - static_cast<double>(mean[c])) * inverse[c];
      const double factor = weight[c] * static_cast<double>(inverse[c]);
      dx[i] = factor * (dy[i] - one / count - normal * two / count);
      const double terms = std::fabs(dy[i]) + std::fabs(one) / count + std::fabs(normal * two) / count;
      dx_off[i] = std::fabs(factor) * (10 * kUnit * terms + kSum * one_size / count +
                                       std::fabs(normal) * kSum * two_size / count);
    }
  }
  emit({"batch_norm_grad",
        std::to_string(rows) + " rows of " + std::to_string(depth) + (gated ? " with a gate" : ""),
        {rows, depth, gated},
        {given_map(x), given_map(given_dy), given(weight), given(mean), given(inverse),
         gated ? given_map(gate) : left_out(), made_map(rounded(dx), dx_off),
         made(rounded(dweight), dweight_off), made(rounded(dbias), dbias_off),
         workspace(sums_bytes(rows, depth))}});
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
      for (const bool gated : {false, true}) gradient(rows, depth, gated, random, emit);
    }
  training(100, 5, 1000.0, random, emit);  // a mean that is large costs no digits
  training(small ? 50 : 2000, 3, -300.0, random, emit);
}

}  // namespace selftest
