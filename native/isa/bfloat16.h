// One bfloat16 number at a time; vector_*.h have the same by the vector.
#pragma once

static float widened(float x) { return x; }

static float widened(Bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float made;
  __builtin_memcpy(&made, &bits, sizeof(made));
  return made;
}

// To the nearest, of two equally near the even one; NaN stays NaN.
static Bfloat16 narrowed(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  bits = x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000;
  return {static_cast<uint16_t>(bits >> 16)};
}

static void put(float* to, float x) { *to = x; }
static void put(Bfloat16* to, float x) { *to = narrowed(x); }
