// The kernels' own test, without Python or a test framework:
//
//   selftest [--small] [kernel ...]
//
// For every kernel and every instruction set of this build: cases against plain loops, bit for bit where
// the arithmetic is exact and within a computed tolerance where it is not; writes outside an operand;
// the same bits from one, two and three threads. Where the processor lacks AMX, its tiles are carried out in
// software. One line a kernel and set, then the totals.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "call.h"
#include "cpu.h"
#include "selftest/case.h"
#include "selftest/run.h"
#include "selftest/tiles.h"
#include "threads.h"

namespace {

using selftest::Case;

constexpr void (*kFamilies[])(bool, const selftest::Emit&) = {
    selftest::assemble_cases,   selftest::layout_cases, selftest::conv_cases,      selftest::stem_cases,
    selftest::winograd_cases,   selftest::pool_cases,   selftest::pointwise_cases, selftest::norm_cases,
    selftest::group_norm_cases, selftest::loss_cases,   selftest::update_cases};

// Sanitizers look at accesses, not at bits, and take long over each: one team will do.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr size_t kShown = 5;  // failures of one kernel and set

// Of the small table a kernel's first cases are run, and of the others every so manieth: a number that no
// loop of a table turns by, so that all kinds are met. Emulators and sanitizers take long over each.
constexpr int64_t kFirst = kSanitized ? 50 : 100, kThinned = kSanitized ? 17 : 7;

struct Score {
  int64_t passed = 0;
  std::vector<std::string> failures;
};

struct Totals {
  int64_t passed = 0, failed = 0, skipped = 0;

  void add(const std::string& name, const char* isa, const Score& score) {
    const auto failed = static_cast<int64_t>(score.failures.size());
    std::printf("%-28s %-11s %6lld cases%s\n", name.c_str(), isa,
                static_cast<long long>(score.passed + failed), failed > 0 ? "  FAILED" : "");
    for (size_t i = 0; i < score.failures.size() && i < kShown; ++i)
      std::printf("    %s\n", score.failures[i].c_str());
    if (score.failures.size() > kShown) std::printf("    and %zu more\n", score.failures.size() - kShown);
    passed += score.passed;
    this->failed += failed;
  }
};

bool usable(const hubel::Isa& isa) {
  static const bool tiles = selftest::emulate_tiles();
  return isa.available() || (tiles && std::strcmp(isa.name, "amx") == 0);
}

bool has(const hubel::KernelTable& table, const std::string& kernel) {
  for (int64_t k = 0; k < table.count; ++k)
    if (kernel == table.kernels[k].name) return true;
  return false;
}

// Every kernel of any set, in the order of the tables.
std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (int i = hubel::kIsaCount - 1; i >= 0; --i) {
    const hubel::KernelTable& table = *hubel::kIsas[i].table();
    for (int64_t k = 0; k < table.count; ++k)
      if (std::find(names.begin(), names.end(), table.kernels[k].name) == names.end())
        names.push_back(table.kernels[k].name);
  }
  return names;
}

Score scored(int64_t cases, std::vector<std::string> failures) {
  return {cases - static_cast<int64_t>(failures.size()), std::move(failures)};
}

}  // namespace

int main(int count, char** arguments) {
  bool small = false;
  std::set<std::string> wanted;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--small") == 0)
      small = true;
    else
      wanted.insert(arguments[i]);
  }
  hubel::Threads two(2), three(3);
  std::vector<hubel::Threads*> teams{&three};
  if (!kSanitized) teams.push_back(&two);
  std::map<std::string, std::map<std::string, Score>> scores;
  std::map<std::string, int64_t> met, cases;
  const auto take = [&](const Case& test) {
    if (!wanted.empty() && wanted.count(test.kernel) == 0) return;
    const int64_t number = met[test.kernel]++;
    if (small && number >= kFirst && number % kThinned != 0) return;
    ++cases[test.kernel];
    for (int i = 0; i < hubel::kIsaCount; ++i) {
      const hubel::Isa& isa = hubel::kIsas[i];
      if (!usable(isa) || !has(*isa.table(), test.kernel)) continue;
      Score& score = scores[test.kernel][isa.name];
      const std::string problem = selftest::run(*isa.table(), test, teams);
      if (problem.empty())
        ++score.passed;
      else
        score.failures.push_back(test.what + ": " + problem);
    }
  };
  for (const auto maps : {selftest::Emit::Maps::kFloat, selftest::Emit::Maps::kBfloat16})
    for (const auto family : kFamilies) family(small, selftest::Emit(maps, take));

  Totals totals;
  for (const std::string& name : kernels()) {
    if (!wanted.empty() && wanted.count(name) == 0) continue;
    if (cases[name] == 0) {
      totals.add(name, "-", {0, {"this kernel has no case"}});
      continue;
    }
    for (int i = 0; i < hubel::kIsaCount; ++i) {
      const hubel::Isa& isa = hubel::kIsas[i];
      if (!has(*isa.table(), name)) continue;
      if (usable(isa)) {
        totals.add(name, isa.name, scores[name][isa.name]);
      } else {
        std::printf("%-28s %-11s SKIPPED: the processor lacks it\n", name.c_str(), isa.name);
        totals.skipped += cases[name];
      }
    }
  }
  if (wanted.empty()) {
    int64_t done = 0;
    std::vector<std::string> failures = selftest::test_threads(small, &done);
    totals.add("threads", "-", scored(done, failures));
    failures = selftest::test_program(&done);
    totals.add("program", "-", scored(done, failures));
    failures = selftest::test_winograd_accuracy(&done);
    totals.add("accuracy of winograd", "-", scored(done, failures));
    failures = selftest::test_ceiling(&done);
    totals.add("ceiling", "-", scored(done, failures));
  }
  std::printf("%lld passed, %lld failed, %lld skipped\n", static_cast<long long>(totals.passed),
              static_cast<long long>(totals.failed), static_cast<long long>(totals.skipped));
  return totals.failed == 0 ? 0 : 1;
}
