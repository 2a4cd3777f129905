#include "engine.h"

#include "denormals.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

namespace hubel {

namespace {

const Kernel& find(const KernelTable& best, const std::string& name) {
  for (const KernelTable* table = &best; table != nullptr; table = table->base ? table->base() : nullptr)
    for (int64_t i = 0; i < table->count; ++i)
      if (name == table->kernels[i].name) return table->kernels[i];
  throw std::invalid_argument("there is no kernel " + name);
}

int64_t parts(const Kernel& kernel, const Step& step) {
  return static_cast<int64_t>(step.operands.size()) / kernel.operands;
}

void check(const Kernel& kernel, const Step& step, const std::vector<int64_t>& memories) {
  const std::string where = "kernel " + step.kernel + ": ";
  const int64_t count = parts(kernel, step);
  if (count < 1 || (count > 1 && !kernel.repeats) ||
      static_cast<int64_t>(step.operands.size()) != count * kernel.operands ||
      static_cast<int64_t>(step.parameters.size()) != count * kernel.parameters)
    throw std::invalid_argument(where + "takes " + std::to_string(kernel.operands) + " operands and " +
                                std::to_string(kernel.parameters) + " parameters" +
                                (kernel.repeats ? " for each of its parts" : ""));
  std::vector<int64_t> needed(step.operands.size());
  for (int64_t part = 0; part < count; ++part)
    if (!kernel.sizes(step.parameters.data() + part * kernel.parameters,
                      needed.data() + part * kernel.operands))
      throw std::invalid_argument(where + "senseless parameters");
  for (size_t i = 0; i < step.operands.size(); ++i) {
    const Place& place = step.operands[i];
    const std::string which = where + "operand " + std::to_string(i) + " ";
    if (place.memory < 0) {
      if (needed[i] > 0) throw std::invalid_argument(which + "is missing");
      continue;
    }
    if (place.memory >= static_cast<int64_t>(memories.size()) || place.offset < 0 || place.bytes < 0 ||
        place.offset > memories[place.memory] - place.bytes)
      throw std::invalid_argument(which + "lies outside its memory");
    if (place.bytes < needed[i])
      throw std::invalid_argument(which + "has " + std::to_string(place.bytes) + " bytes but needs " +
                                  std::to_string(needed[i]));
    if (place.offset % 8 != 0) throw std::invalid_argument(which + "is not aligned");
  }
}

}  // namespace

Program::Program(const KernelTable& table, const std::vector<Step>& steps, std::vector<int64_t> memories)
    : memories_(std::move(memories)) {
  for (const Step& step : steps) {
    const Kernel& kernel = find(table, step.kernel);
    check(kernel, step, memories_);
    steps_.push_back({&kernel, parts(kernel, step), step.operands, step.parameters});
    scratch_ = std::max(scratch_, kernel.scratch(step.parameters.data()));
    most_operands_ = std::max(most_operands_, step.operands.size());
  }
}

void Program::run(const std::vector<void*>& memories, Threads& threads, double* seconds) const {
  using Clock = std::chrono::steady_clock;
  const FlushDenormals flush;
  threads.reserve(scratch_);
  std::vector<void*> operands(most_operands_);
  for (const Bound& step : steps_) {
    for (size_t i = 0; i < step.operands.size(); ++i) {
      const Place& place = step.operands[i];
      operands[i] = place.memory < 0 ? nullptr : static_cast<char*>(memories[place.memory]) + place.offset;
    }
    const Clock::time_point begun = seconds ? Clock::now() : Clock::time_point{};
    step.kernel->run({operands.data(), step.parameters.data(), step.count, step.kernel->operands}, threads);
    if (seconds) *seconds++ = std::chrono::duration<double>(Clock::now() - begun).count();
  }
}

}  // namespace hubel
