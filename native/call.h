// What a kernel is given: its operands in memory, and its parameters, a struct of 8-byte fields.
#pragma once

#include <cstdint>

namespace hubel {

class Threads;

// The upper half of a float: its sign, its exponent and seven bits of its fraction.
struct Bfloat16 {
  uint16_t bits;
};

// A product of sizes, or 2^58 where it is more: such a number of bytes is in no memory, whatever is added.
template <class... Sizes>
constexpr int64_t product(Sizes... sizes) {
  __extension__ typedef __int128 Wide;
  constexpr Wide kMost = Wide{1} << 58;
  Wide total = 1;
  ((total = total < kMost ? total * sizes : total), ...);
  return static_cast<int64_t>(total < kMost ? total : kMost);
}

// Whether whole-number parameters are of a size that sums and differences of them can bear.
template <class Parameters>
bool moderate(const Parameters& parameters) {
  const auto* fields = reinterpret_cast<const int64_t*>(&parameters);
  for (unsigned i = 0; i < sizeof(Parameters) / 8; ++i)
    if (fields[i] < 0 || fields[i] > int64_t{1} << 40) return false;
  return true;
}

// Of a kernel that repeats, `count` parts lie one behind the other, each with `each` operands.
struct Call {
  void* const* operands;
  const void* parameters;
  int64_t count = 1, each = 0;

  template <class P>
  const P& as() const {
    return *static_cast<const P*>(parameters);
  }
  template <class T>
  T* at(int index) const {
    return static_cast<T*>(operands[index]);
  }
  template <class P>
  Call part(int64_t index) const {
    return {operands + index * each, static_cast<const P*>(parameters) + index};
  }
};

// Activation maps lie as [images / block][height][width][block][depth]: every pixel is a block × depth
// matrix. A vector is a map of one pixel.
struct Maps {
  int64_t images, block, height, width, depth;

  int64_t blocks() const { return images / block; }
  int64_t pixel() const { return block * depth; }
  int64_t row() const { return width * pixel(); }
  int64_t size() const { return product(images, height, width, depth); }
  int64_t at(int64_t b, int64_t y, int64_t x) const { return ((b * height + y) * width + x) * pixel(); }
};

struct Kernel {
  const char* name;
  int64_t operands;
  int64_t parameters;
  // One call may do any number of parts, which share nothing that one of them writes.
  bool repeats;
  // For one part: writes the bytes that each operand must have; false where the parameters make no sense.
  bool (*sizes)(const void* parameters, int64_t* bytes);
  void (*run)(const Call& call, Threads& threads);
  // Bytes of scratch memory that every thread needs.
  int64_t (*scratch)(const void* parameters);
};

// An instruction set's kernels; what it lacks it has from `base`, if there is one.
struct KernelTable {
  const char* isa;
  const Kernel* kernels;
  int64_t count;
  int64_t (*multiply_adds)(int64_t rounds, float* number);  // see isa/ceiling.h
  const KernelTable* (*base)();
};

}  // namespace hubel
