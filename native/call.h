// What a kernel is given: its operands in memory, and its parameters, a struct of 8-byte fields.
#pragma once

#include <cstdint>

namespace hubel {

class Threads;

struct Call {
  void* const* operands;
  const void* parameters;

  template <class P>
  const P& as() const {
    return *static_cast<const P*>(parameters);
  }
  template <class T>
  T* at(int index) const {
    return static_cast<T*>(operands[index]);
  }
};

// Activation maps lie as [images / block][height][width][block][depth]: every pixel is a block × depth
// matrix. A vector is a map of one pixel.
struct Maps {
  int64_t images, block, height, width, depth;

  int64_t blocks() const { return images / block; }
  int64_t pixel() const { return block * depth; }
  int64_t row() const { return width * pixel(); }
  int64_t rows() const { return images * height * width; }
  int64_t size() const { return rows() * depth; }
  int64_t at(int64_t b, int64_t y, int64_t x) const { return ((b * height + y) * width + x) * pixel(); }
};

struct Kernel {
  const char* name;
  int64_t operands;
  int64_t parameters;
  // Writes the bytes that each operand must have; false where the parameters make no sense.
  bool (*sizes)(const void* parameters, int64_t* bytes);
  void (*run)(const Call& call, Threads& threads);
};

struct KernelTable {
  const char* isa;
  const Kernel* kernels;
  int64_t count;
};

}  // namespace hubel
