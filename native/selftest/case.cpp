#include "case.h"

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

}  // namespace

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
