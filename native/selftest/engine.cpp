// What is no kernel: the team of threads, and what a program refuses.
#include <atomic>
#include <stdexcept>

#include "../cpu.h"
#include "../engine.h"
#include "case.h"

namespace selftest {

std::vector<std::string> test_threads(bool small, int64_t* cases) {
  std::vector<std::string> failures;
  *cases = 0;
  for (const int count : {1, 2, 3, 8}) {
    hubel::Threads team(count);
    for (int round = 0; round < (small ? 50 : 2000); ++round) {
      const int64_t tasks = round % 37;
      std::vector<int64_t> runs(static_cast<size_t>(tasks));
      std::vector<double> plain(static_cast<size_t>(tasks) * 9);
      // Not atomic: each task is one thread's alone, and done when each() returns.
      team.each(tasks, [&](int64_t task) {
        ++runs[task];
        for (int i = 0; i < 9; ++i) plain[task * 9 + i] = static_cast<double>(task);
      });
      ++*cases;
      bool right = true;
      for (int64_t task = 0; task < tasks; ++task)
        right = right && runs[task] == 1 && plain[task * 9 + 8] == task;
      if (!right)
        failures.push_back(std::to_string(count) + " threads, round " + std::to_string(round) +
                           ": a task did not run exactly once");
    }
  }
  // Scratch memory: each worker its own, on a cache line, as much as was ever asked for.
  hubel::Threads sharing(3);
  for (const int64_t bytes : {1, 100000, 10}) {
    sharing.reserve(bytes);
    std::atomic<int64_t> wrong{0};
    sharing.each_worker(100, [&](int64_t task, int worker) {
      auto* mine = static_cast<volatile unsigned char*>(sharing.scratch(worker));
      if (reinterpret_cast<uintptr_t>(mine) % 64 != 0) ++wrong;
      mine[0] = static_cast<unsigned char>(task);
      mine[bytes - 1] = static_cast<unsigned char>(task);
      for (int i = 0; i < 1000; ++i)
        if (mine[0] != task || mine[bytes - 1] != task) ++wrong;
    });
    ++*cases;
    if (wrong > 0) failures.push_back("workers disturb one another's scratch memory");
  }
  // Teams that come and go, used or not.
  for (int round = 0; round < (small ? 10 : 100); ++round) {
    hubel::Threads team(3);
    std::atomic<int64_t> sum{0};
    team.each(round % 3 == 0 ? 0 : 50, [&](int64_t task) { sum += task; });
    ++*cases;
    if (sum != (round % 3 == 0 ? 0 : 1225)) failures.push_back("a new team lost a task");
  }
  return failures;
}

namespace {

// What is wrong with a program of this one step, as its own message; "" for nothing.
std::string refusal(const hubel::Step& step, const std::vector<int64_t>& memories) {
  try {
    hubel::Program(*hubel::kernels_for(nullptr), {step}, memories);
  } catch (const std::invalid_argument& refused) {
    return refused.what();
  }
  return "";
}

}  // namespace

std::vector<std::string> test_program(int64_t* cases) {
  std::vector<std::string> failures;
  *cases = 0;
  const auto expect = [&](const hubel::Step& step, const std::string& wanted) {
    ++*cases;
    const std::string got = refusal(step, {64, 64});
    if (got != wanted) failures.push_back("refused with '" + got + "', not '" + wanted + "'");
  };
  const hubel::Place a{0, 0, 16}, b{0, 16, 16}, none{-1, 0, 0}, y{1, 0, 16};
  const Words four{4, 0, 0};
  expect({"add", {a, b, none, y}, four}, "");
  expect({"ad", {a, b, none, y}, four}, "there is no kernel ad");
  expect({"add", {a}, four}, "kernel add: takes 4 operands and 3 parameters");
  expect({"add", {a, b, none, y}, {4}}, "kernel add: takes 4 operands and 3 parameters");
  expect({"add", {a, b, none, y}, {-4, 0, 0}}, "kernel add: senseless parameters");
  expect({"add", {a, b, none, y}, {5, 0, 0}}, "kernel add: operand 0 has 16 bytes but needs 20");
  expect({"add", {a, none, none, y}, four}, "kernel add: operand 1 is missing");
  expect({"add", {a, b, none, {1, 56, 16}}, four}, "kernel add: operand 3 lies outside its memory");
  expect({"add", {a, b, none, {2, 0, 16}}, four}, "kernel add: operand 3 lies outside its memory");
  expect({"add", {a, b, none, {1, -8, 16}}, four}, "kernel add: operand 3 lies outside its memory");
  expect({"add", {a, {0, 20, 16}, none, y}, four}, "kernel add: operand 1 is not aligned");
  // Parts of one call.
  const hubel::Place rate{0, 32, 8}, number{0, 40, 8}, z{1, 16, 16};
  const Words part{4, 0, 0, 0, 0, 0, 0, 0}, both{4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0};
  const std::string takes = "kernel sgd: takes 6 operands and 8 parameters for each of its parts";
  expect({"sgd", {a, rate, number, none, y, none, b, rate, number, none, z, none}, both}, "");
  expect({"sgd", {a, rate, number, none, y, none, b, rate, number, none, z, none}, part}, takes);
  expect({"sgd", {a, rate, number, none, y, none, b}, both}, takes);
  expect({"sgd", {}, {}}, takes);
  expect({"sgd", {a, rate, number, none, y, none, b, rate, number, none, none, none}, both},
         "kernel sgd: operand 10 is missing");
  expect({"sgd",
          {a, rate, number, none, y, none, b, rate, number, none, z, none},
          {4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
         "kernel sgd: senseless parameters");
  expect({"add", {a, b, none, y, a, b, none, z}, {4, 0, 0, 4, 0, 0}},
         "kernel add: takes 4 operands and 3 parameters");
  // Sizes that a kernel could not keep to: groups that do not divide, blocks that do not, a window in
  // padding alone, positions that do not fit in a byte, a label's share above one, a rate of one.
  const auto senseless = [&](const std::string& kernel, size_t operands, const Words& parameters) {
    expect({kernel, std::vector<hubel::Place>(operands, {0, 0, 64}), parameters},
           "kernel " + kernel + ": senseless parameters");
  };
  senseless("conv", 4, {1, 1, 4, 4, 3, 4, 4, 4, 1, 1, 1, 1, 0, 0, 1, 1, 2, 0, 0, 0, 1, 1, 1});
  senseless("conv", 4, {3, 2, 4, 4, 3, 4, 4, 4, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1});
  senseless("conv", 4, {1, 1, 4, 4, 4, 4, 4, 4, 1, 1, 1, 1, 0, 0, 1, 1, 2, 0, 0, 0, 1, 1, 2});
  senseless("conv", 4, {1, 1, 4, 4, 3, 4, 4, 4, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1});
  senseless("conv_input_grad", 4, {1, 1, 4, 4, 3, 4, 4, 4, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1});
  // No panels, groups, dilation along the row, no chunks.
  senseless("stem", 4, {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1});
  senseless("stem", 4, {1, 1, 4, 4, 4, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 2, 0, 0, 0, 1, 1, 1});
  senseless("stem", 4, {1, 1, 5, 5, 3, 1, 1, 4, 3, 3, 1, 1, 0, 0, 1, 2, 1, 0, 0, 0, 1, 1, 1});
  senseless("stem_weight_grad", 5, {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1});
  // Another window, a stride, dilation, groups, no panels, no parts, no rows, no chunks.
  senseless("winograd", 5, {1, 1, 4, 4, 3, 2, 3, 4, 3, 2, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 8, 1});
  senseless("winograd", 5, {1, 1, 4, 4, 3, 1, 1, 4, 3, 3, 2, 2, 0, 0, 1, 1, 1, 0, 0, 0, 1, 8, 1});
  senseless("winograd", 5, {1, 1, 5, 5, 3, 1, 1, 4, 3, 3, 1, 1, 0, 0, 2, 2, 1, 0, 0, 0, 1, 8, 1});
  senseless("winograd", 5, {1, 1, 4, 4, 4, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 2, 0, 0, 0, 1, 8, 1});
  senseless("winograd", 5, {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 8, 1});
  senseless("winograd", 5, {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 8, 0});
  senseless("winograd", 5, {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1});
  senseless("winograd_weight_grad", 5,
            {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 8, 0, 1});
  senseless("winograd_weight_grad", 5,
            {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1});
  // A gate, one row of outputs, one column, another stride.
  senseless("winograd_pool", 5, {1, 1, 4, 4, 3, 2, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 8, 1, 0});
  senseless("winograd_pool", 5, {1, 1, 3, 4, 3, 1, 2, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 8, 1, 0});
  senseless("winograd_pool", 5, {1, 1, 4, 3, 3, 2, 1, 4, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 8, 1, 0});
  senseless("winograd_pool", 5, {1, 1, 9, 9, 3, 4, 4, 4, 3, 3, 2, 2, 0, 0, 1, 1, 1, 0, 0, 0, 1, 8, 1, 0});
  senseless("winograd_weights", 2, {4, 3, 4, 1, 0});
  senseless("fold_norm", 8, {2, 3, word(-1.0), 0});
  senseless("max_pool", 3, {1, 1, 4, 4, 1, 4, 4, 2, 2, 2, 1, 0, 0, 0, 0, 0});
  senseless("max_pool", 3, {1, 1, 4, 4, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0, 0});
  senseless("max_pool", 3, {1, 1, 300, 1, 1, 1, 1, 257, 1, 1, 1, 0, 0, 0, 0, 0});
  senseless("copy_channels", 2, {1, 3, 4, 2, 8, 0});
  senseless("softmax_cross_entropy", 4, {1, 2, word(1.5)});
  // No size, an average of nothing but the start, no step of the iteration.
  senseless("gradient_norm", 4, {0, 0, 1, 1});
  senseless("average", 3, {4, word(1.0)});
  senseless("muon", 7, {2, 2, 0, 0, 0, 0, 0, 0, 0, 0});
  senseless("dropout", 4, {1, 1, 1, 1, 1, word(1.0), 0});
  senseless("activation", 2, {1, 9, word(0.0)});
  const hubel::KernelTable& table = *hubel::kernels_for("generic");
  for (int64_t k = 0; k < table.count; ++k) {
    const hubel::Kernel& kernel = table.kernels[k];
    const std::vector<hubel::Place> all(static_cast<size_t>(kernel.operands), {0, 0, 64});
    const std::vector<int64_t> zeros(static_cast<size_t>(kernel.parameters));
    expect({kernel.name, all, zeros}, std::string("kernel ") + kernel.name + ": senseless parameters");
  }
  ++*cases;
  if (hubel::kernels_for("mmx") != nullptr) failures.push_back("there is an instruction set mmx");
  return failures;
}

// Multiply-adds by ½ with ½ take every sum from ½ to 1 − 2⁻⁴ in three rounds, exactly: the number that comes
// back tells how many sums there were, and so how many operations.
std::vector<std::string> test_ceiling(int64_t* cases) {
  std::vector<std::string> failures;
  *cases = 0;
  for (int i = 0; i < hubel::kIsaCount; ++i) {
    const hubel::Isa& isa = hubel::kIsas[i];
    if (!isa.available()) continue;
    ++*cases;
    float number = 0.5f;
    const int64_t operations = isa.table()->multiply_adds(3, &number);
    const double sums = (static_cast<double>(number) - 0.5) / 0.9375;
    const auto whole = static_cast<int64_t>(sums);
    if (whole < 1 || sums != static_cast<double>(whole) || operations % (whole * 3 * 2) != 0)
      failures.push_back(std::string(isa.name) + ": " + std::to_string(operations) + " operations gave " +
                         std::to_string(number));
  }
  return failures;
}

}  // namespace selftest
