// Activation functions, dropout, sums and maxout against their definitions in double.
#include <cmath>

#include "case.h"

namespace selftest {

namespace {

enum Function : int64_t { kRelu, kLeaky, kElu, kSelu, kSigmoid, kTanh, kGelu, kSilu, kScale, kFunctions };

constexpr double kSeluAlpha = 1.6732632423543772848170429916717;
constexpr double kSeluScale = 1.0507009873554804934193349852946;

// A value, and the sum of the magnitudes of what is added up for it or may be off by rounding.
struct Result {
  double value, magnitude;
};

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double bell(double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); }
double peak(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2.0 * 3.14159265358979323846); }

Result forward(int64_t function, double x, double alpha) {
  const auto same = [](double value) { return Result{value, std::fabs(value)}; };
  switch (function) {
    case kRelu:
      return same(x < 0 ? 0 : x);
    case kLeaky:
      return same(x > 0 ? x : alpha * x);
    case kElu:
      return same(x > 0 ? x : alpha * std::expm1(x));
    case kSelu:
      return same(kSeluScale * (x > 0 ? x : kSeluAlpha * std::expm1(x)));
    case kSigmoid:
      return same(sigmoid(x));
    case kTanh:
      return same(std::tanh(x));
    case kGelu:
      // The exponent, ½x², is off by a part of itself.
      return {x * bell(x), std::fabs(x) * bell(x) * (1 + x * x)};
    case kSilu:
      return same(x * sigmoid(x));
    default:
      return same(alpha * x);
  }
}

// The slope by x from what is kept, y or x.
Result slope(int64_t function, double kept, double alpha) {
  switch (function) {
    case kRelu:
      return {kept <= 0 ? 0.0 : 1.0, 0};
    case kLeaky:
      return {kept > 0 ? 1.0 : alpha, alpha};
    case kElu:
      return {kept > 0 ? 1.0 : kept + alpha, std::fabs(kept) + alpha};
    case kSelu:
      return {kept > 0 ? kSeluScale : kept + kSeluScale * kSeluAlpha,
              std::fabs(kept) + kSeluScale * kSeluAlpha};
    case kSigmoid:
      return {kept * (1 - kept), std::fabs(kept) * (1 + std::fabs(kept))};
    case kTanh:
      return {1 - kept * kept, 1 + kept * kept};
    case kGelu:
      // The exponent, ½x², is off by a part of itself.
      return {bell(kept) + kept * peak(kept), 1 + std::fabs(kept) * peak(kept) * (1 + kept * kept)};
    case kSilu: {
      const double s = sigmoid(kept);
      return {s * (1 + kept * (1 - s)), s * (1 + std::fabs(kept) * (2 - s))};
    }
    default:
      return {alpha, alpha};
  }
}

// No function takes more than so many roundings of ½ eps of its terms, library functions counted as two.
constexpr double kRoundings = 8;
// Two of the smallest numbers that float holds: what underflows is off by no part of itself.
constexpr double kLeast = 2 * 0x1p-149;

void activations(int64_t size, Random& random, const Emit& emit) {
  for (int64_t function = 0; function < kFunctions; ++function) {
    Floats x = random.real(size, 6.0);
    const float strange[] = {0.0f, -0.0f, not_a_number(), 30.0f, -30.0f, 100.0f, -100.0f, 1e-30f, -1e-30f};
    for (size_t i = 0; i < std::size(strange) && i + 1 < x.size(); ++i) x[i] = strange[i];
    x = emit.stored(x);
    const float alpha = 0.3f;
    Doubles y, off;
    for (const float value : x) {
      const Result made = forward(function, value, alpha);
      y.push_back(made.value);
      off.push_back(kRoundings * 0.5 * kEps * made.magnitude + kLeast * (1 + std::fabs(value)));
    }
    const std::string what = "function " + std::to_string(function) + " of " + std::to_string(size);
    emit({"activation", what, {size, function, word(alpha)}, {given_map(x), made_map(rounded(y), off)}});

    const bool from_input = function == kGelu || function == kSilu;
    const Floats kept = from_input ? x : emit.stored(rounded(y)), dy = emit.stored(random.real(size, 3.0));
    Doubles dx, dx_off;
    for (int64_t i = 0; i < size; ++i) {
      const Result made = slope(function, kept[i], alpha);
      // The gradient of ReLU is a gate: what it lets pass it leaves alone, and NaN opens it.
      dx.push_back(function == kRelu ? (kept[i] <= 0 ? 0.0 : dy[i]) : dy[i] * made.value);
      const double magnitude = std::fabs(dy[i]) * (made.magnitude + std::fabs(made.value));
      const double size = std::isnan(kept[i]) ? 0.0 : std::fabs(kept[i]);
      const double least = kLeast * (1 + std::fabs(dy[i]) * (1 + size));
      dx_off.push_back(function == kRelu ? 0.0 : kRoundings * 0.5 * kEps * magnitude + least);
    }
    emit({"activation_grad",
          what,
          {size, function, word(alpha)},
          {given_map(kept), given_map(dy), made_map(rounded(dx), dx_off)}});
  }
}

void sums(int64_t size, Random& random, const Emit& emit) {
  const Floats a = emit.stored(random.whole(size, 1000)), b = emit.stored(random.whole(size, 1000));
  Floats y(a.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = a[i] + b[i];
  const std::string what = std::to_string(size);
  emit({"add", what, {size, 0, 0}, {given_map(a), given_map(b), left_out(), made_map(y)}});
  Floats positive(y), open(y);
  const Floats gate = random.whole(size, 2);
  for (float& value : positive) value = value > 0 ? value : 0;
  for (size_t i = 0; i < y.size(); ++i) open[i] = gate[i] > 0 ? y[i] : 0;
  emit({"add",
        what + " with relu",
        {size, 1, 0},
        {given_map(a), given_map(b), left_out(), made_map(positive)}});
  emit({"add",
        what + " with a gate",
        {size, 0, 1},
        {given_map(a), given_map(b), given_map(gate), made_map(open)}});
}

int64_t parts_of(int64_t rows, int64_t depth) {
  const int64_t parts = rows * depth / 32768;
  return parts < 1 ? 1 : parts > 64 ? 64 : parts;
}

void prelu(int64_t rows, int64_t depth, Random& random, const Emit& emit) {
  const Floats x = random.whole(rows * depth, 3), slopes = random.whole(depth, 3);
  const Floats dy = random.whole(rows * depth, 3);
  Floats y(x.size()), dx(x.size()), dslope(slopes.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % slopes.size();
    y[i] = x[i] > 0 ? x[i] : slopes[c] * x[i];
    dx[i] = x[i] > 0 ? dy[i] : slopes[c] * dy[i];
    dslope[c] += x[i] > 0 ? 0 : x[i] * dy[i];
  }
  const std::string what = std::to_string(rows) + " rows of " + std::to_string(depth);
  emit({"prelu", what, {rows, depth}, {given_map(x), given(slopes), made_map(y)}});
  emit({"prelu_grad",
        what,
        {rows, depth},
        {given_map(x), given(slopes), given_map(dy), made_map(dx), made(dslope),
         workspace(parts_of(rows, depth) * depth * 8)}});
}

void maxout(int64_t rows, int64_t depth, int64_t pieces, Random& random, const Emit& emit) {
  Floats x = random.whole(rows * depth * pieces, 2);
  for (size_t i = 0; i < x.size(); i += 11) x[i] = not_a_number();
  const Floats dy = random.whole(rows * depth, 9);
  Floats y(dy.size()), dx(x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    size_t best = i * pieces;
    for (size_t j = best + 1; j < (i + 1) * pieces; ++j)
      if (x[best] == x[best] && (x[j] > x[best] || x[j] != x[j])) best = j;
    y[i] = x[best];
    dx[best] = dy[i];
  }
  const std::string what =
      std::to_string(rows) + " rows of " + std::to_string(depth) + ", " + std::to_string(pieces) + " pieces";
  emit({"maxout", what, {rows, depth, pieces}, {given_map(x), made_map(y)}});
  emit({"maxout_grad", what, {rows, depth, pieces}, {given_map(x), given_map(dy), made_map(dx)}});
}

uint64_t hash(uint64_t z) {
  z ^= z >> 30;
  z *= 13787848793156543929u;
  z ^= z >> 27;
  z *= 10723151780598845931u;
  return z ^ z >> 31;
}

void dropout(int64_t images, int64_t block, int64_t pixels, int64_t depth, double rate, Random& random,
             const Emit& emit) {
  const Words seed{7 + images}, step{-3};
  const int64_t stream = 5;
  Floats x = random.whole(images * pixels * depth, 9), y(x.size());
  x[0] = not_a_number();
  const uint64_t key = hash(hash(hash(seed[0]) + step[0]) + stream);
  const auto scale = static_cast<float>(1.0 / (1.0 - rate));
  for (size_t i = 0; i < x.size(); ++i) {
    const bool dropped = static_cast<double>(hash(key + i) >> 40) < std::ceil(rate * 0x1p24);
    y[i] = dropped ? 0.0f : x[i] * scale;
  }
  const auto laid = [&](const Floats& plain) { return in_blocks(plain, images, block, pixels, depth); };
  emit({"dropout",
        std::to_string(images) + " images in blocks of " + std::to_string(block) + ", rate " +
            std::to_string(rate),
        {images, block, pixels, 1, depth, word(rate), stream},
        {given_map(laid(x)), given(seed), given(step), made_map(laid(y))}});
}

}  // namespace

void pointwise_cases(bool small, const Emit& emit) {
  Random random(4);
  const int64_t large = small ? 300 : 70000;  // more than two tasks
  for (const int64_t size : {1, 15, 33, 257}) activations(size, random, emit);
  activations(large, random, emit);
  for (const int64_t size : {int64_t{1}, int64_t{17}, large}) sums(size, random, emit);
  for (const int64_t depth : {1, 3, 17, 32})
    for (const int64_t rows : {int64_t{1}, int64_t{6}, large / 8}) prelu(rows, depth, random, emit);
  prelu(3, small ? 50 : 40000, random, emit);
  for (const int64_t pieces : {1, 2, 3, 9}) {
    maxout(1, 1, pieces, random, emit);
    maxout(37, 5, pieces, random, emit);
    maxout(small ? 30 : 9000, 4, pieces, random, emit);
  }
  for (const int64_t block : {1, 2, 4, 8, 16})
    for (const double rate : {0.0, 0.3, 0.5, 0.999}) {
      dropout(2 * block, block, 6, 5, rate, random, emit);
      dropout(block, block, 1, 33, rate, random, emit);
    }
}

}  // namespace selftest
