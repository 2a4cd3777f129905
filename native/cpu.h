// What this processor can do, and how many cores this process may use.
#pragma once

namespace hubel {

struct KernelTable;

// The kernels of the best instruction set that both the build and the processor have; `wanted`
// names one instead. Null where that one is unknown or the processor lacks it.
const KernelTable* kernels_for(const char* wanted);

// Every instruction set of this build, best first, and whether this processor has it. `pair_rate` is how
// many products of bfloat16 numbers it makes in pairs while it makes one of floats; 0 without such kernels.
struct Isa {
  const char* name;
  bool (*available)();
  double (*pair_rate)();
  const KernelTable* (*table)();
};
extern const Isa kIsas[];
extern const int kIsaCount;

int usable_cores();

}  // namespace hubel
