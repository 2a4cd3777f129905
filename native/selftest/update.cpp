// Optimizer steps, the norm of gradients and averages against their formulas in double.
#include <algorithm>
#include <cmath>
#include <map>

#include "case.h"

namespace selftest {

namespace {

// Every result is made by few operations on factors that were rounded to float: so many roundings of its
// terms, at most.
constexpr double kRoundings = 10 * 0.5 * kEps;

struct Decay {
  double l2, l1, decay;
};

// What every step has besides: the factor of the rate, and that of clipped gradients, 0 where none is.
struct Factors {
  double rate, clip;

  Operand operand() const { return clip > 0 ? given(Doubles{clip}) : left_out(); }
  double scale() const { return clip > 0 ? clip : 1; }
};

constexpr Factors kFactors[] = {{1, 0}, {0.5, 0.375}};

constexpr Decay kDecays[] = {{0, 0, 0}, {0.25, 0, 0}, {0, 0.125, 0}, {0.1, 0.05, 0.3}};

struct Numbers {
  Floats gradient, weight;
  double given_rate = 0.125, rate = 0.125;
  Factors factors{1, 0};

  Numbers(int64_t size, Random& random) : gradient(random.real(size, 1.0)), weight(random.real(size, 1.0)) {
    weight[0] = 0;  // has no sign
  }
  int64_t size() const { return static_cast<int64_t>(weight.size()); }
  void use(const Factors& chosen) {
    factors = chosen;
    rate = given_rate * chosen.rate;
  }
  // The gradient with regularisation, and the magnitude of its terms.
  double regular(size_t i, const Decay& d, double* magnitude) const {
    const double w = weight[i], sign = w > 0 ? 1 : w < 0 ? -1 : 0, g = factors.scale() * gradient[i];
    *magnitude = std::fabs(g) + std::fabs(d.l2 * w) + d.l1;
    return g + d.l2 * w + d.l1 * sign;
  }
  double shrunk(size_t i, const Decay& d) const { return (1 - rate * d.decay) * weight[i]; }
};

// An array and how far it may be off.
struct Bounded {
  Doubles value, off;

  void add(double x, double magnitude) {
    value.push_back(x);
    off.push_back(kRoundings * magnitude);
  }
  Operand from(const Floats& before) const { return changed(before, rounded(value), off); }
};

void sgd(const Numbers& n, const Decay& d, double momentum, bool nesterov, const Floats& velocity,
         const Emit& emit) {
  Bounded w, v;
  for (size_t i = 0; i < n.weight.size(); ++i) {
    double size;
    const double g = n.regular(i, d, &size);
    double step = g, step_size = size;
    if (momentum != 0) {
      const double moved = momentum * velocity[i] + g;
      const double moved_size = std::fabs(momentum * velocity[i]) + size;
      v.add(moved, moved_size);
      step = nesterov ? g + momentum * moved : moved;
      step_size = nesterov ? size + momentum * moved_size : moved_size;
    }
    w.add(n.shrunk(i, d) - n.rate * step, std::fabs(n.weight[i]) + n.rate * step_size);
  }
  emit({"sgd",
        std::to_string(n.size()) + ", momentum " + std::to_string(momentum) + (nesterov ? ", Nesterov" : ""),
        {n.size(), word(momentum), nesterov, word(d.l2), word(d.l1), word(d.decay), word(n.factors.rate),
         n.factors.clip > 0},
        {given(n.gradient), given(Doubles{n.given_rate}), given(Words{1}), n.factors.operand(),
         w.from(n.weight), momentum != 0 ? v.from(velocity) : left_out()}});
}

void rmsprop(const Numbers& n, const Decay& d, double momentum, const Floats& square, const Floats& velocity,
             const Emit& emit) {
  const double alpha = 0.9, epsilon = 1e-3;
  Bounded w, s, v;
  for (size_t i = 0; i < n.weight.size(); ++i) {
    double size;
    const double g = n.regular(i, d, &size);
    const double mean = alpha * square[i] + (1 - alpha) * g * g;
    s.add(mean, alpha * square[i] + (1 - alpha) * size * size);
    const double root = std::sqrt(mean) + epsilon;
    // g in the numerator, and in the mean: d(g/√s) <= dg/√s + g·ds/(2·s·√s).
    double step = g / root;
    double step_size = size / root + std::fabs(g) / root * (1 + s.off[i] / kRoundings / mean);
    if (momentum != 0) {
      step = momentum * velocity[i] + step;
      step_size += std::fabs(momentum * velocity[i]);
      v.add(step, step_size);
    }
    w.add(n.shrunk(i, d) - n.rate * step, std::fabs(n.weight[i]) + n.rate * step_size);
  }
  emit({"rmsprop",
        std::to_string(n.size()) + ", momentum " + std::to_string(momentum),
        {n.size(), word(alpha), word(epsilon), word(momentum), word(d.l2), word(d.l1), word(d.decay),
         word(n.factors.rate), n.factors.clip > 0},
        {given(n.gradient), given(Doubles{n.given_rate}), given(Words{1}), n.factors.operand(),
         w.from(n.weight), s.from(square), momentum != 0 ? v.from(velocity) : left_out()}});
}

void adam(const Numbers& n, const Decay& d, int64_t number, const Floats& first, const Floats& second,
          const Emit& emit) {
  const double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-3;
  const double count = static_cast<double>(number);
  Bounded w, m, s;
  for (size_t i = 0; i < n.weight.size(); ++i) {
    double size;
    const double g = n.regular(i, d, &size);
    const double mean = beta1 * first[i] + (1 - beta1) * g;
    const double mean_size = std::fabs(beta1 * first[i]) + (1 - beta1) * size;
    const double square = beta2 * second[i] + (1 - beta2) * g * g;
    m.add(mean, mean_size);
    s.add(square, beta2 * second[i] + (1 - beta2) * size * size);
    const double rate = n.rate / (1 - std::pow(beta1, count));
    const double root = std::sqrt(square / (1 - std::pow(beta2, count))) + epsilon;
    const double relative = 1 + s.off[i] / kRoundings / square;
    w.add(n.shrunk(i, d) - rate * mean / root,
          std::fabs(n.weight[i]) + rate * (mean_size + std::fabs(mean) * relative) / root);
  }
  emit({"adam",
        std::to_string(n.size()) + ", step " + std::to_string(number),
        {n.size(), word(beta1), word(beta2), word(epsilon), word(d.l2), word(d.l1), word(d.decay),
         word(n.factors.rate), n.factors.clip > 0},
        {given(n.gradient), given(Doubles{n.given_rate}), given(Words{number}), n.factors.operand(),
         w.from(n.weight), m.from(first), s.from(second)}});
}

// A product of an m × k and a k × n matrix; with `noise` each number is off by what a sum of k floats is.
Doubles multiplied(const Doubles& a, const Doubles& b, int64_t m, int64_t k, int64_t n, Random* noise) {
  Doubles c(static_cast<size_t>(m * n));
  Floats off;
  if (noise) off = noise->real(m * n, kEps * std::sqrt(static_cast<double>(k)));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (int64_t t = 0; t < k; ++t) {
        sum += a[i * k + t] * b[t * n + j];
        size += std::fabs(a[i * k + t] * b[t * n + j]);
      }
      c[i * n + j] = sum + (noise ? static_cast<double>(off[i * n + j]) * size : 0.0);
    }
  return c;
}

Doubles transposed(const Doubles& a, int64_t rows, int64_t columns) {
  Doubles made(a.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) made[j * rows + i] = a[i * columns + j];
  return made;
}

constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;

Doubles polynomial(const Doubles& gram, int64_t size, Random* noise) {
  Doubles made = multiplied(gram, gram, size, size, size, noise);
  for (size_t i = 0; i < made.size(); ++i) made[i] = kB * gram[i] + kC * made[i];
  for (int64_t i = 0; i < size; ++i) made[i * size + i] += kA;
  return made;
}

// By the definition: x ← a·x + x·(b·xᵀx + c·(xᵀx)²) for a tall x of length 1.
Doubles orthogonal(Doubles x, int64_t rows, int64_t columns, int64_t steps) {
  for (int64_t step = 0; step < steps; ++step) {
    const Doubles flat = transposed(x, rows, columns);
    const Doubles gram = multiplied(flat, x, columns, rows, columns, nullptr);
    x = multiplied(x, polynomial(gram, columns, nullptr), rows, columns, columns, nullptr);
  }
  return x;
}

// On Gram matrices, as the kernel has it, with the errors of sums of floats.
Doubles orthogonal_off(const Doubles& x, int64_t rows, int64_t columns, int64_t steps, Random* noise) {
  const int64_t n = columns;
  Doubles gram = multiplied(transposed(x, rows, columns), x, n, rows, n, noise), whole;
  for (int64_t step = 0; step < steps; ++step) {
    const Doubles p = polynomial(gram, n, noise);
    whole = step == 0 ? p : multiplied(whole, p, n, n, n, noise);
    gram = multiplied(multiplied(gram, p, n, n, n, noise), p, n, n, n, noise);
  }
  return multiplied(x, whole, rows, n, n, noise);
}

void muon(const Numbers& n, const Decay& d, int64_t columns, bool unit, const Floats& velocity,
          const Emit& emit) {
  const int64_t rows = n.size() / columns, steps = 5;
  const double momentum = 0.875;
  Bounded w, v;
  Doubles ahead;
  double squares = 0, lengths = 0;
  for (size_t i = 0; i < n.weight.size(); ++i) {
    double size;
    const double g = n.regular(i, d, &size);
    v.add(momentum * velocity[i] + g, std::fabs(momentum * velocity[i]) + size);
    ahead.push_back(g + momentum * v.value.back());
    squares += ahead.back() * ahead.back();
    lengths += static_cast<double>(n.weight[i]) * n.weight[i];
  }
  for (double& number : ahead) number /= std::sqrt(squares) + 1e-7;
  const bool wide = columns > rows;
  const int64_t longer = wide ? columns : rows, shorter = wide ? rows : columns;
  const Doubles tall = wide ? transposed(ahead, rows, columns) : ahead;
  Doubles step = orthogonal(tall, longer, shorter, steps);
  // Eight times the most that random errors of the size of rounding make of it, in four runs.
  double most = 0;
  Random noise(11);
  for (int run = 0; run < 4; ++run) {
    const Doubles found = orthogonal_off(tall, longer, shorter, steps, &noise);
    for (size_t i = 0; i < found.size(); ++i) most = std::max(most, std::fabs(found[i] - step[i]));
  }
  if (wide) step = transposed(step, longer, shorter);
  const double part = static_cast<double>(columns) / static_cast<double>(rows);
  const double rate = n.rate * std::sqrt(part > 1 ? part : 1);
  double keep = 1 - n.rate * d.decay;
  if (unit) keep = lengths > 0 ? std::sqrt(static_cast<double>(columns) / lengths) : 1;
  for (size_t i = 0; i < n.weight.size(); ++i)
    w.add(keep * n.weight[i] - rate * step[i],
          std::fabs(keep * n.weight[i]) + rate * (std::fabs(step[i]) + 8 * most / kRoundings));
  const int64_t square = shorter * shorter;
  emit({"muon",
        std::to_string(rows) + " by " + std::to_string(columns) + (unit ? ", of a length" : ""),
        {rows, columns, word(momentum), steps, unit, word(d.l2), word(d.l1), word(d.decay),
         word(n.factors.rate), n.factors.clip > 0},
        {given(n.gradient), given(Doubles{n.given_rate}), given(Words{1}), n.factors.operand(),
         w.from(n.weight), v.from(velocity),
         workspace((n.size() + 32767) / 32768 * 8 + 8 * n.size() + 16 * square)}});
}

// Σg² of several gradients, one call after another, each with the sum of those before.
void norm(const Floats& gradient, double before, double clip, const Emit& emit) {
  const int64_t size = static_cast<int64_t>(gradient.size());
  double sum = 0;
  for (const float g : gradient) sum += static_cast<double>(g) * g;
  const auto near = [](double value) { return Doubles{1e-12 * value}; };
  const Operand partial = workspace((size + 32767) / 32768 * 8);
  emit({"gradient_norm",
        std::to_string(size) + ", the first",
        {size, word(0), 1, 0},
        {given(gradient), partial, made(Doubles{sum}, near(sum)), left_out()}});
  const double whole = std::sqrt(before + sum), scale = std::min(1.0, clip / (whole + 1e-6));
  emit({"gradient_norm",
        std::to_string(size) + ", the last",
        {size, word(clip), 0, 1},
        {given(gradient), partial, changed(Doubles{before}, Doubles{whole}, near(whole)),
         clip > 0 ? made(Doubles{scale}, near(scale)) : left_out()}});
}

void average(const Numbers& n, int64_t number, const Floats& before, const Emit& emit) {
  const double decay = 0.9, share = (1 - decay) / (1 - std::pow(decay, static_cast<double>(number)));
  Bounded mean;
  for (size_t i = 0; i < n.weight.size(); ++i)
    mean.add(before[i] + share * (static_cast<double>(n.weight[i]) - before[i]),
             number == 1 ? 0 : std::fabs(before[i]) + share * std::fabs(n.weight[i] - before[i]));
  emit({"average",
        std::to_string(n.size()) + ", step " + std::to_string(number),
        {n.size(), word(decay)},
        {given(n.weight), given(Words{number}), mean.from(before)}});
}

// Every case as one call, and all cases of a kernel as the parts of one.
class Parts {
 public:
  explicit Parts(const Emit& emit) : emit_(emit) {}

  void add(const Case& one) {
    emit_(one);
    Case& all = joined_[one.kernel];
    all.kernel = one.kernel;
    all.parameters.insert(all.parameters.end(), one.parameters.begin(), one.parameters.end());
    all.operands.insert(all.operands.end(), one.operands.begin(), one.operands.end());
    all.what = std::to_string(++count_[one.kernel]) + " parts";
  }
  void emit_joined() const {
    for (const auto& [kernel, all] : joined_) emit_(all);
  }

 private:
  const Emit& emit_;
  std::map<std::string, Case> joined_;
  std::map<std::string, int64_t> count_;
};

}  // namespace

void update_cases(bool small, const Emit& give) {
  Random random(7);
  Parts parts(give);
  const Emit emit(Emit::Maps::kFloat, [&](const Case& one) { parts.add(one); });
  for (const int64_t size : {1, 19, small ? 100 : 33000}) {
    Numbers n(size, random);
    const Floats slot = random.real(size, 1.0), zero(static_cast<size_t>(size), 0.0f);
    Floats square = random.real(size, 1.0);
    for (float& value : square) value = value * value + 0.01f;
    for (const Factors& factors : kFactors) {
      n.use(factors);
      for (const Decay& d : kDecays) {
        for (const double momentum : {0.0, 0.9}) {
          sgd(n, d, momentum, false, slot, emit);
          rmsprop(n, d, momentum, square, slot, emit);
        }
        sgd(n, d, 0.9, true, slot, emit);
        adam(n, d, 1, zero, zero, emit);
        adam(n, d, 1000, slot, square, emit);
      }
    }
    for (const int64_t number : {1, 2, 1000}) average(n, number, slot, emit);
    for (const double clip : {0.0, 0.5, 1e6}) norm(n.gradient, 0.25, clip, give);
  }
  parts.emit_joined();
  const int64_t shapes[][2] = {{1, 1}, {7, 5}, {5, 7}, {27, 64}, {72, 33}, {200, small ? 40 : 100}};
  for (const auto& [rows, columns] : shapes) {
    Numbers n(rows * columns, random);
    const Floats slot = random.real(n.size(), 1.0);
    for (const Factors& factors : kFactors) {
      n.use(factors);
      for (const bool unit : {false, true}) muon(n, kDecays[3], columns, unit, slot, give);
    }
  }
}

}  // namespace selftest
