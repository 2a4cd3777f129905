#include "cpu.h"

#include <cstdio>
#include <cstring>
#include <thread>

#include "call.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace hubel {

#define HUBEL_ISA(name)       \
  namespace name {            \
  const KernelTable* table(); \
  }
#include "isa/isas.inc"
#undef HUBEL_ISA

namespace {

bool has_generic() { return true; }
#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#elif defined(__aarch64__)
bool has_neon() { return true; }
#endif

}  // namespace

const Isa kIsas[] = {
#define HUBEL_ISA(name) {#name, has_##name, name::table},
#include "isa/isas.inc"
#undef HUBEL_ISA
};
const int kIsaCount = sizeof(kIsas) / sizeof(kIsas[0]);

const KernelTable* kernels_for(const char* wanted) {
  for (const Isa& isa : kIsas) {
    const bool named = wanted == nullptr || *wanted == 0 || std::strcmp(wanted, isa.name) == 0;
    if (named && isa.available()) return isa.table();
  }
  return nullptr;
}

namespace {

// The cores that a container may use at most, as Linux's control groups give them; 0 for no limit.
int quota() {
  int cores = 0;
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    long long microseconds, period;
    if (std::fscanf(file, "%lld %lld", &microseconds, &period) == 2 && period > 0)
      cores = static_cast<int>((microseconds + period - 1) / period);
    std::fclose(file);
  }
  return cores;
}

int visible_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned cores = std::thread::hardware_concurrency();
  return cores > 0 ? static_cast<int>(cores) : 1;
}

}  // namespace

int usable_cores() {
  const int visible = visible_cores(), most = quota();
  return most > 0 && most < visible ? most : visible;
}

}  // namespace hubel
