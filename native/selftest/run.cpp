#include "run.h"

#include <cmath>
#include <cstdlib>
#include <exception>
#include <memory>

#include "../engine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)
#define ASAN_UNPOISON_MEMORY_REGION(address, size)
#endif

namespace selftest {

namespace {

constexpr size_t kGuard = 128;
constexpr double kLeast = 0x1p-126;  // numbers below, which are denormal, count as zero
constexpr uint8_t kCanary = 0x5a;

// Bytes that start on a cache line, with canaries before and right after them. The address sanitizer
// also sees reads of them.
class Guarded {
 public:
  explicit Guarded(const std::vector<uint8_t>& content)
      : size_(content.size()), whole_(static_cast<uint8_t*>(std::aligned_alloc(64, room()))) {
    std::memset(whole_, kCanary, room());
    if (size_ > 0) std::memcpy(data(), content.data(), size_);
    ASAN_POISON_MEMORY_REGION(whole_, kGuard);
    ASAN_POISON_MEMORY_REGION(data() + size_, room() - kGuard - size_);
  }
  ~Guarded() {
    ASAN_UNPOISON_MEMORY_REGION(whole_, room());
    std::free(whole_);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  uint8_t* data() const { return whole_ + kGuard; }

  bool intact() const {
    ASAN_UNPOISON_MEMORY_REGION(whole_, room());
    for (size_t i = 0; i < kGuard; ++i)
      if (whole_[i] != kCanary) return false;
    for (size_t i = kGuard + size_; i < room(); ++i)
      if (whole_[i] != kCanary) return false;
    return true;
  }

 private:
  size_t room() const { return (kGuard + size_ + kGuard + 63) / 64 * 64; }

  size_t size_;
  uint8_t* whole_;
};

// `eps` is how far the last rounding may move a number that may be off, in parts of it, and `least` by how
// much at least.
template <class T>
std::string compare(const Operand& operand, const std::vector<T>& after, const std::vector<T>& found,
                    double eps, double least) {
  const size_t count = found.size();
  for (size_t i = 0; i < count; ++i) {
    const T wanted = after[i], got = found[i];
    if (got == wanted || (got != got && wanted != wanted)) continue;
    double allowed = 0.0;
    if (!operand.allowed.empty()) {
      allowed = operand.allowed[i];
      allowed += 0.5 * eps * (std::fabs(static_cast<double>(wanted)) + allowed) + least;
    }
    if (std::fabs(static_cast<double>(got) - static_cast<double>(wanted)) <= allowed) continue;
    return "number " + std::to_string(i) + " of " + std::to_string(count) + " is " + std::to_string(got) +
           ", not " + std::to_string(wanted) + " ± " + std::to_string(allowed);
  }
  return "";
}

std::string compare(const Operand& operand, const std::vector<uint8_t>& found) {
  if (operand.free) return "";
  switch (operand.number) {
    case Operand::Number::kFloat:
      return compare(operand, numbers_of<float>(operand.after), numbers_of<float>(found), kEps, kLeast);
    case Operand::Number::kBfloat16: {
      const Floats exact = numbers_of<float>(operand.after);
      const Floats wanted = operand.allowed.empty() ? from_bfloat16(to_bfloat16(exact)) : exact;
      return compare(operand, wanted, from_bfloat16(numbers_of<uint16_t>(found)), kEpsBfloat16, kLeast);
    }
    case Operand::Number::kDouble:
      return compare(operand, numbers_of<double>(operand.after), numbers_of<double>(found), 0.0, 0.0);
    case Operand::Number::kBytes:
      break;
  }
  return compare(operand, operand.after, found, 0.0, 0.0);
}

// The operands' bytes after one run, with `team` threads.
std::string run_once(const hubel::KernelTable& table, const Case& test, hubel::Threads& team,
                     std::vector<std::vector<uint8_t>>& found) {
  std::vector<std::unique_ptr<Guarded>> memories;
  std::vector<void*> addresses;
  std::vector<int64_t> sizes;
  hubel::Step step{test.kernel, {}, test.parameters};
  for (const Operand& operand : test.operands) {
    if (operand.left_out) {
      step.operands.push_back({-1, 0, 0});
      continue;
    }
    const auto bytes = static_cast<int64_t>(operand.before.size());
    step.operands.push_back({static_cast<int64_t>(memories.size()), 0, bytes});
    memories.push_back(std::make_unique<Guarded>(operand.before));
    addresses.push_back(memories.back()->data());
    sizes.push_back(bytes);
  }
  try {
    hubel::Program(table, {step}, sizes).run(addresses, team);
  } catch (const std::exception& problem) {
    return problem.what();
  }
  size_t next = 0;
  for (size_t i = 0; i < test.operands.size(); ++i) {
    found.emplace_back();
    if (test.operands[i].left_out) continue;
    const Guarded& memory = *memories[next++];
    if (!memory.intact()) return "operand " + std::to_string(i) + ": wrote outside it";
    found.back().assign(memory.data(), memory.data() + test.operands[i].before.size());
  }
  return "";
}

}  // namespace

std::string run(const hubel::KernelTable& table, const Case& test,
                const std::vector<hubel::Threads*>& teams) {
  std::vector<std::vector<uint8_t>> first;
  // New for each case, so that its scratch memory ends where the case's need does, for sanitizers to see.
  hubel::Threads alone(1);
  std::vector<hubel::Threads*> all{&alone};
  all.insert(all.end(), teams.begin(), teams.end());
  for (hubel::Threads* team : all) {
    const std::string where = std::to_string(team->count()) + " threads: ";
    std::vector<std::vector<uint8_t>> found;
    const std::string problem = run_once(table, test, *team, found);
    if (!problem.empty()) return where + problem;
    for (size_t i = 0; i < found.size(); ++i) {
      const std::string wrong = compare(test.operands[i], found[i]);
      if (!wrong.empty()) return where + "operand " + std::to_string(i) + ": " + wrong;
      if (!first.empty() && found[i] != first[i] && !test.operands[i].free)
        return where + "operand " + std::to_string(i) + " has other bits than with one thread";
    }
    if (first.empty()) first = found;
  }
  return "";
}

}  // namespace selftest
