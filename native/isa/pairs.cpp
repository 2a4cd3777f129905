// The kernels of pairs for one instruction set that multiplies pairs of bfloat16 numbers; compiled once for
// each, as target.cpp is, whose remark on the linker holds here too. All other kernels are those of
// HUBEL_BASE, whose vectors these use.
#include <string.h>

#include <immintrin.h>

#include <cstdint>

#include "../brgemm.h"
#include "../call.h"
#include "../threads.h"

#define HUBEL_QUOTE(x) #x
#define HUBEL_NAME(x) HUBEL_QUOTE(x)

namespace hubel::HUBEL_BASE {
const KernelTable* table();
}

namespace hubel::HUBEL_TARGET {

namespace {
#include "bfloat16.h"
#include HUBEL_VECTOR
}  // namespace

namespace {
#include "../kernels/pairs.h"
#include "ceiling.h"
}  // namespace

const KernelTable* table() {
  static const KernelTable made{HUBEL_NAME(HUBEL_TARGET), kKernels, sizeof(kKernels) / sizeof(kKernels[0]),
                                multiply_adds, HUBEL_BASE::table};
  return &made;
}

}  // namespace hubel::HUBEL_TARGET
