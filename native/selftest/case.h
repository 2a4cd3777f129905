// One test of a kernel: its parameters, what lies in its operands before it runs, and what must lie there
// afterwards. The expectations are computed here from the definitions, in plain (N, H, W, C) loops and in
// double; they share no code with the kernels.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace selftest {

using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Words = std::vector<int64_t>;

// A parameter as the eight bytes that the kernel's struct holds.
inline int64_t word(double value) {
  int64_t made;
  std::memcpy(&made, &value, sizeof(made));
  return made;
}

struct Operand {
  enum class Number { kFloat, kBfloat16, kDouble, kBytes };

  std::vector<uint8_t> before;
  std::vector<uint8_t> after;  // floats for bfloat16 numbers, as they are before the last rounding
  Number number = Number::kBytes;
  bool map = false;       // lies as the other maps of the case do
  Doubles allowed;        // how far each number may be off; empty where the result is exact
  bool left_out = false;  // the call gives no such operand
  bool free = false;      // a workspace, whose content afterwards says nothing
};

struct Case {
  std::string kernel;
  std::string what;  // shown when it fails
  Words parameters;
  std::vector<Operand> operands;
};

// Takes the cases of the tables, which are gone through twice: as they are, with maps of floats, and again
// for maps of bfloat16 numbers. Then a case with maps is one of its kernel's twin, and those without are left
// out.
class Emit {
 public:
  enum class Maps { kFloat, kBfloat16 };

  Emit(Maps maps, std::function<void(const Case&)> take) : maps_(maps), take_(std::move(take)) {}

  void operator()(const Case& test) const;
  // Numbers as a map holds them; what a kernel makes of a map is to be worked out from these.
  Floats stored(Floats values) const;

 private:
  Maps maps_;
  std::function<void(const Case&)> take_;
};

template <class T>
std::vector<T> numbers_of(const std::vector<uint8_t>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// What a kernel reads and must leave alone.
Operand given(const Floats& values);
Operand given(const Doubles& values);
Operand given(const std::vector<int64_t>& values);
template <class T>
Operand given_bytes(const std::vector<T>& values) {
  Operand made;
  made.before.resize(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(made.before.data(), values.data(), made.before.size());
  made.after = made.before;
  return made;
}

// Bfloat16 numbers next to these floats, of two equally near the even one; and what they stand for.
std::vector<uint16_t> to_bfloat16(const Floats& values);
Floats from_bfloat16(const std::vector<uint16_t>& values);
bool is_bfloat16(const Floats& values);

// What a kernel makes; before it runs, every byte is 0xff, which is NaN.
Operand made(const Floats& values, const Doubles& allowed = {});
Operand made(const Doubles& values, const Doubles& allowed = {});
template <class T>
Operand made_bytes(const std::vector<T>& values) {
  Operand operand = given_bytes(values);
  operand.before.assign(operand.after.size(), 0xff);
  return operand;
}

// What a kernel changes.
Operand changed(const Floats& before, const Floats& after, const Doubles& allowed = {});
Operand changed(const Doubles& before, const Doubles& after, const Doubles& allowed = {});
// The same for maps.
Operand given_map(const Floats& values);
Operand made_map(const Floats& values, const Doubles& allowed = {});
Operand changed_map(const Floats& before, const Floats& after);
// An operand of floats as bfloat16 numbers, which its floats must be before the kernel runs.
Operand as_bfloat16(Operand operand);
Operand workspace(int64_t bytes);
Operand left_out();

Floats rounded(const Doubles& values);
Doubles widened(const Floats& values);

// Numbers that are always the same for the same seed: SplitMix64 as a generator.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  int64_t below(int64_t count) { return static_cast<int64_t>(next() % static_cast<uint64_t>(count)); }
  // Whole numbers from -most to most: sums of their products are exact in float up to 2²⁴.
  Floats whole(int64_t count, int64_t most);
  // Numbers between -most and most of which few are alike.
  Floats real(int64_t count, double most);

 private:
  uint64_t next();

  uint64_t state_;
};

// Plain (N, H, W, C) to [N / block][H][W][block][C].
template <class T>
std::vector<T> in_blocks(const std::vector<T>& plain, int64_t images, int64_t block, int64_t pixels,
                         int64_t depth) {
  std::vector<T> laid(plain.size());
  for (int64_t n = 0; n < images; ++n)
    for (int64_t i = 0; i < pixels; ++i)
      for (int64_t c = 0; c < depth; ++c)
        laid[(((n / block) * pixels + i) * block + n % block) * depth + c] =
            plain[(n * pixels + i) * depth + c];
  return laid;
}

constexpr double kEps = 1.1920928955078125e-7;  // 2⁻²³, the distance of 1 and the next float
constexpr double kEpsBfloat16 = 0x1p-7;

// Of the normalisations, in units of u = ½ eps: a sum of numbers d in runs of 32 floats is off by at most
// 33u·Σ|d|, and one product in each term adds u more.
constexpr double kUnit = 0.5 * kEps;
constexpr double kSum = 40 * kUnit;  // of Σ|d|

inline float not_a_number() { return __builtin_nanf(""); }
inline float infinity() { return __builtin_inff(); }

// The tables of cases, one a family of kernels; `small` leaves out most shapes.
void assemble_cases(bool small, const Emit& emit);
void layout_cases(bool small, const Emit& emit);
void conv_cases(bool small, const Emit& emit);
void stem_cases(bool small, const Emit& emit);
void winograd_cases(bool small, const Emit& emit);
void pool_cases(bool small, const Emit& emit);
void pointwise_cases(bool small, const Emit& emit);
void norm_cases(bool small, const Emit& emit);
void group_norm_cases(bool small, const Emit& emit);
void loss_cases(bool small, const Emit& emit);
void update_cases(bool small, const Emit& emit);

// What is no kernel: each gives the failures' texts.
std::vector<std::string> test_threads(bool small, int64_t* cases);
std::vector<std::string> test_program(int64_t* cases);
std::vector<std::string> test_winograd_accuracy(int64_t* cases);
std::vector<std::string> test_ceiling(int64_t* cases);

}  // namespace selftest
