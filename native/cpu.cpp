#include "cpu.h"

#include <cstdio>
#include <cstring>
#include <thread>

#include "call.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
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
double pairs_generic() { return 0.0; }
#if defined(__x86_64__)
double pairs_avx2() { return 0.0; }
double pairs_avx512() { return 0.0; }
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

struct Features {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Features features(unsigned part) {
  Features found;
  if (!__get_cpuid_count(7, part, &found.a, &found.b, &found.c, &found.d)) found = Features{};
  return found;
}

bool has_avx512_bf16() { return has_avx512() && (features(1).a >> 5 & 1) != 0; }

// AMD's processors make two such products in the time of one of floats. Intel's do not: measured on a Xeon
// with AVX-512-BF16 and without AMX, half as many.
double pairs_avx512_bf16() { return __builtin_cpu_is("amd") ? 1.9 : 0.5; }

// Linux lets a process use tiles once it has asked to, and all its threads then.
bool permitted_tiles() {
#if defined(__linux__)
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

bool has_amx() {
  static const bool found = [] {
    const unsigned d = features(0).d;
    const bool tiles = (d >> 24 & 1) != 0, bfloat16 = (d >> 22 & 1) != 0;
    return tiles && bfloat16 && has_avx512() && permitted_tiles();
  }();
  return found;
}

// A tile's instruction makes sixteen times as many as one of floats; about five are left where tiles are
// fed from maps and finished.
double pairs_amx() { return 5.0; }
#elif defined(__aarch64__)
bool has_neon() { return true; }
double pairs_neon() { return 0.0; }
#endif

}  // namespace

const Isa kIsas[] = {
#define HUBEL_ISA(name) {#name, has_##name, pairs_##name, name::table},
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
