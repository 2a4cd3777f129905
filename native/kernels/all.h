// Every kernel, in the order in which one may use what stands before it, and the table of them.

#include "../isa/brgemm_tile.h"
// (kernels are included inside a namespace that belongs to one instruction set)
#include "share.h"
#include "interleave.h"
#include "assemble.h"
#include "layout.h"
#include "sweep.h"
#include "conv.h"
#include "conv_grad.h"
#include "grouped.h"
#include "narrow.h"
#include "stem.h"
#include "pool.h"
#include "winograd.h"
#include "winograd_grad.h"
#include "exponential.h"
#include "pointwise.h"
#include "norm.h"
#include "norm_apply_grad.h"
#include "norm_pool.h"
#include "group_norm.h"
#include "loss.h"
#include "update.h"
#include "muon.h"

#define HUBEL_PAIR_KERNEL(name, operands, Parameters)
#define HUBEL_KERNEL(name, operands, Parameters, sizes) static_assert(sizeof(Parameters) % 8 == 0);
#define HUBEL_MAP_KERNEL(name, operands, Parameters, sizes) HUBEL_KERNEL(name, operands, Parameters, sizes)
#define HUBEL_PARTS_KERNEL(name, operands, Parameters, sizes) HUBEL_KERNEL(name, operands, Parameters, sizes)
#include "../kernels.inc"
#undef HUBEL_PARTS_KERNEL
#undef HUBEL_MAP_KERNEL
#undef HUBEL_KERNEL
#undef HUBEL_PAIR_KERNEL

static const Kernel kKernels[] = {
#define HUBEL_PAIR_KERNEL(name, operands, Parameters)
#define HUBEL_ROW(name, T, operands, Parameters, repeats, sizes, run) \
  {name, operands, sizeof(Parameters) / 8, repeats, sizes, run, scratch_of<T, Parameters>},
#define HUBEL_KERNEL(name, operands, Parameters, sizes) \
  HUBEL_ROW(#name, float, operands, Parameters, false, sizes, name)
#define HUBEL_PARTS_KERNEL(name, operands, Parameters, sizes) \
  HUBEL_ROW(#name, float, operands, Parameters, true, sizes, name)
#define HUBEL_MAP_KERNEL(name, operands, Parameters, sizes)                       \
  HUBEL_ROW(#name, float, operands, Parameters, false, sizes<float>, name<float>) \
  HUBEL_ROW(#name "_bf16", Bfloat16, operands, Parameters, false, sizes<Bfloat16>, name<Bfloat16>)
#include "../kernels.inc"
#undef HUBEL_PARTS_KERNEL
#undef HUBEL_MAP_KERNEL
#undef HUBEL_KERNEL
#undef HUBEL_ROW
#undef HUBEL_PAIR_KERNEL
};
