#include "case.h"

#include <cmath>
#include <stdexcept>

namespace selftest {

namespace {

template <class T>
std::vector<uint8_t> bytes_of(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <class T>
Operand operand(Operand::Number number, const std::vector<T>& before, const std::vector<T>& after,
                const Doubles& allowed) {
  Operand made;
  made.before = bytes_of(before);
  made.after = bytes_of(after);
  made.number = number;
  made.allowed = allowed;
  return made;
}

Operand as_map(Operand operand) {
  operand.map = true;
  return operand;
}

float from_upper_half(uint32_t bits) {
  bits <<= 16;
  float made;
  std::memcpy(&made, &bits, sizeof(made));
  return made;
}

// Chosen between the two neighbours by their distance; past the largest number lies 2¹²⁸.
uint16_t nearest(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t below = bits >> 16;
  if (std::isnan(value)) return static_cast<uint16_t>(below | 0x40);
  if (std::isinf(value)) return static_cast<uint16_t>(below);
  const auto distance = [&](uint32_t half) {
    const double found = std::fabs(static_cast<double>(from_upper_half(half)));
    return std::fabs((std::isinf(found) ? 0x1p128 : found) - std::fabs(static_cast<double>(value)));
  };
  const double under = distance(below), over = distance(below + 1);
  const bool up = over < under || (over == under && below % 2 == 1);
  return static_cast<uint16_t>(up ? below + 1 : below);
}

}  // namespace

std::vector<uint16_t> to_bfloat16(const Floats& values) {
  std::vector<uint16_t> made;
  for (const float value : values) made.push_back(nearest(value));
  return made;
}

Floats from_bfloat16(const std::vector<uint16_t>& values) {
  Floats made;
  for (const uint16_t value : values) made.push_back(from_upper_half(value));
  return made;
}

void Emit::operator()(const Case& test) const {
  if (maps_ == Maps::kFloat) return take_(test);
  Case twin = test;
  twin.kernel += "_bf16";
  bool any = false;
  for (Operand& operand : twin.operands) {
    if (!operand.map) continue;
    any = true;
    operand = as_bfloat16(operand);
  }
  if (any) take_(twin);
}

Operand as_bfloat16(Operand operand) {
  const Floats before = numbers_of<float>(operand.before);
  if (!is_bfloat16(before)) throw std::logic_error("a map is given numbers that are not stored()");
  operand.before = bytes_of(to_bfloat16(before));
  operand.number = Operand::Number::kBfloat16;
  return operand;
}

bool is_bfloat16(const Floats& values) {
  const Floats held = from_bfloat16(to_bfloat16(values));
  for (size_t i = 0; i < values.size(); ++i)
    if (held[i] != values[i] && !std::isnan(values[i])) return false;
  return true;
}

Floats Emit::stored(Floats values) const {
  return maps_ == Maps::kFloat ? values : from_bfloat16(to_bfloat16(values));
}

Operand given(const Floats& values) { return operand(Operand::Number::kFloat, values, values, {}); }
Operand given(const Doubles& values) { return operand(Operand::Number::kDouble, values, values, {}); }
Operand given(const std::vector<int64_t>& values) { return given_bytes(values); }

Operand made(const Floats& values, const Doubles& allowed) {
  Operand made = operand(Operand::Number::kFloat, values, values, allowed);
  made.before.assign(made.after.size(), 0xff);
  return made;
}

Operand made(const Doubles& values, const Doubles& allowed) {
  Operand made = operand(Operand::Number::kDouble, values, values, allowed);
  made.before.assign(made.after.size(), 0xff);
  return made;
}

Operand changed(const Floats& before, const Floats& after, const Doubles& allowed) {
  return operand(Operand::Number::kFloat, before, after, allowed);
}

Operand changed(const Doubles& before, const Doubles& after, const Doubles& allowed) {
  return operand(Operand::Number::kDouble, before, after, allowed);
}

Operand given_map(const Floats& values) { return as_map(given(values)); }

Operand made_map(const Floats& values, const Doubles& allowed) { return as_map(made(values, allowed)); }

Operand changed_map(const Floats& before, const Floats& after) { return as_map(changed(before, after)); }

Operand workspace(int64_t bytes) {
  Operand made;
  made.before.assign(static_cast<size_t>(bytes), 0xff);
  made.after = made.before;
  made.free = true;
  return made;
}

Operand left_out() {
  Operand made;
  made.left_out = true;
  return made;
}

Floats rounded(const Doubles& values) {
  Floats found(values.size());
  for (size_t i = 0; i < values.size(); ++i) found[i] = static_cast<float>(values[i]);
  return found;
}

Doubles widened(const Floats& values) { return Doubles(values.begin(), values.end()); }

uint64_t Random::next() {
  state_ += 0x9e3779b97f4a7c15u;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

Floats Random::whole(int64_t count, int64_t most) {
  Floats made(static_cast<size_t>(count));
  for (float& x : made) x = static_cast<float>(below(2 * most + 1) - most);
  return made;
}

Floats Random::real(int64_t count, double most) {
  Floats made(static_cast<size_t>(count));
  for (float& x : made)
    x = static_cast<float>(most * (2.0 * static_cast<double>(next() >> 11) * 0x1p-53 - 1.0));
  return made;
}

}  // namespace selftest
