// A program: calls of kernels on places in memory, checked once when it is made, then run as often as wanted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "call.h"
#include "threads.h"

namespace hubel {

// Where an operand lies: `bytes` from `offset` on in one of the memories that a run is given; memory -1
// stands for an operand that the call leaves out.
struct Place {
  int64_t memory, offset, bytes;
};

// One call; of a kernel that repeats, the operands and the parameters of each part, one part after another.
struct Step {
  std::string kernel;
  std::vector<Place> operands;
  std::vector<int64_t> parameters;
};

class Program {
 public:
  // Throws std::invalid_argument for a kernel that does not exist, parameters that make no sense, and
  // operands that are smaller than the kernel needs, misaligned or outside their memory.
  Program(const KernelTable& table, const std::vector<Step>& steps, std::vector<int64_t> memories);

  // Runs every step in order. `memories` are the addresses of the memories, of the sizes given above;
  // `seconds`, where it is given, has room for what each step took.
  void run(const std::vector<void*>& memories, Threads& threads, double* seconds = nullptr) const;

  int64_t steps() const { return static_cast<int64_t>(steps_.size()); }

  const std::vector<int64_t>& memories() const { return memories_; }

 private:
  struct Bound {
    const Kernel* kernel;
    int64_t count;
    std::vector<Place> operands;
    std::vector<int64_t> parameters;
  };
  std::vector<Bound> steps_;
  std::vector<int64_t> memories_;
  int64_t scratch_ = 0;  // bytes, of every thread
  size_t most_operands_ = 0;
};

}  // namespace hubel
