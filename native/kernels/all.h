// Every kernel, in the order in which one may use what stands before it, and the table of them.

#include "../isa/brgemm_tile.h"
// (kernels are included inside a namespace that belongs to one instruction set)
#include "share.h"
#include "layout.h"
#include "conv.h"
#include "pool.h"
#include "pointwise.h"
#include "norm.h"
#include "loss.h"
#include "update.h"

#define HUBEL_KERNEL(name, operands, Parameters, sizes) \
  static_assert(operands <= kMostOperands && sizeof(Parameters) % 8 == 0);
#define HUBEL_MAP_KERNEL HUBEL_KERNEL
#include "../kernels.inc"
#undef HUBEL_MAP_KERNEL
#undef HUBEL_KERNEL

static const Kernel kKernels[] = {
#define HUBEL_KERNEL(name, operands, Parameters, sizes) \
  {#name, operands, sizeof(Parameters) / 8, sizes, name},
#define HUBEL_MAP_KERNEL(name, operands, Parameters, sizes)             \
  {#name, operands, sizeof(Parameters) / 8, sizes<float>, name<float>}, \
      {#name "_bf16", operands, sizeof(Parameters) / 8, sizes<Bfloat16>, name<Bfloat16>},
#include "../kernels.inc"
#undef HUBEL_MAP_KERNEL
#undef HUBEL_KERNEL
};
