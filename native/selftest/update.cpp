// Optimizer steps against their formulas in double.
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

constexpr Decay kDecays[] = {{0, 0, 0}, {0.25, 0, 0}, {0, 0.125, 0}, {0.1, 0.05, 0.3}};

struct Numbers {
  Floats gradient, weight;
  double rate = 0.0625;

  Numbers(int64_t size, Random& random) : gradient(random.real(size, 1.0)), weight(random.real(size, 1.0)) {
    weight[0] = 0;  // has no sign
  }
  int64_t size() const { return static_cast<int64_t>(weight.size()); }
  // The gradient with regularisation, and the magnitude of its terms.
  double regular(size_t i, const Decay& d, double* magnitude) const {
    const double w = weight[i], sign = w > 0 ? 1 : w < 0 ? -1 : 0;
    *magnitude = std::fabs(gradient[i]) + std::fabs(d.l2 * w) + d.l1;
    return gradient[i] + d.l2 * w + d.l1 * sign;
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
        {n.size(), word(momentum), nesterov, word(d.l2), word(d.l1), word(d.decay)},
        {given(n.gradient), given(Doubles{n.rate}), given(Words{1}), w.from(n.weight),
         momentum != 0 ? v.from(velocity) : left_out()}});
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
        {n.size(), word(alpha), word(epsilon), word(momentum), word(d.l2), word(d.l1), word(d.decay)},
        {given(n.gradient), given(Doubles{n.rate}), given(Words{1}), w.from(n.weight), s.from(square),
         momentum != 0 ? v.from(velocity) : left_out()}});
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
        {n.size(), word(beta1), word(beta2), word(epsilon), word(d.l2), word(d.l1), word(d.decay)},
        {given(n.gradient), given(Doubles{n.rate}), given(Words{number}), w.from(n.weight), m.from(first),
         s.from(second)}});
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
    const Numbers n(size, random);
    const Floats slot = random.real(size, 1.0), zero(static_cast<size_t>(size), 0.0f);
    Floats square = random.real(size, 1.0);
    for (float& value : square) value = value * value + 0.01f;
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
  parts.emit_joined();
}

}  // namespace selftest
