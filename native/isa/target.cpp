// All kernels for one instruction set; compiled once for each, with that set's flags and HUBEL_TARGET its
// name. Everything here is internal to the file but table(): an inline function that another file shares
// could be the copy the linker keeps, and run where its instructions do not exist. So no std:: templates.
#include <math.h>
#include <string.h>

#include <cstdint>

// Before any namespace is open, so that what the vector headers include lands outside.
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "../brgemm.h"
#include "../call.h"
#include "../threads.h"

#define HUBEL_QUOTE(x) #x
#define HUBEL_NAME(x) HUBEL_QUOTE(x)

namespace hubel::HUBEL_TARGET {

namespace {
#include "bfloat16.h"
#include HUBEL_VECTOR
}  // namespace

namespace {
#include "../kernels/all.h"
#include "ceiling.h"
}  // namespace

const KernelTable* table() {
  static const KernelTable made{HUBEL_NAME(HUBEL_TARGET), kKernels, sizeof(kKernels) / sizeof(kKernels[0]),
                                multiply_adds, nullptr};
  return &made;
}

}  // namespace hubel::HUBEL_TARGET
