// Four floats in a NEON register; 32 registers hold a 6 × 4 tile and what feeds it.
#pragma once

#include <arm_neon.h>

#include <cstdint>

struct Vector {
  static constexpr int kWidth = 4;
  static constexpr int kTileRows = 6;
  static constexpr int kTileVectors = 4;

  float32x4_t value;

  static Vector zero() { return {vdupq_n_f32(0.0f)}; }
  static Vector all(float x) { return {vdupq_n_f32(x)}; }
  static Vector load(const float* p) { return {vld1q_f32(p)}; }
  static Vector load(const float* p, int count) {
    float lanes[4] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  void store(float* p) const { vst1q_f32(p, value); }
  void store(float* p, int count) const {
    float lanes[4];
    store(lanes);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }
  static Vector load(const uint8_t* p) {
    const uint16_t lanes[4] = {p[0], p[1], p[2], p[3]};
    return load(lanes);
  }
  static Vector load(const uint16_t* p) { return {vcvtq_f32_u32(vmovl_u16(vld1_u16(p)))}; }
  static Vector load(const Bfloat16* p) {
    return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16))};
  }
  static Vector load(const Bfloat16* p, int count) {
    Bfloat16 lanes[4] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  // To the nearest, of two equally near the even one; NaN stays NaN.
  void store(Bfloat16* p) const {
    const uint32x4_t bits = vreinterpretq_u32_f32(value);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    const uint32x4_t ordered = vceqq_f32(value, value);
    vst1_u16(&p->bits, vshrn_n_u32(vbslq_u32(ordered, up, quiet), 16));
  }
  void store(Bfloat16* p, int count) const {
    Bfloat16 lanes[4];
    store(lanes);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }

  friend Vector operator+(Vector a, Vector b) { return {vaddq_f32(a.value, b.value)}; }
  friend Vector operator-(Vector a, Vector b) { return {vsubq_f32(a.value, b.value)}; }
  friend Vector operator*(Vector a, Vector b) { return {vmulq_f32(a.value, b.value)}; }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return {vfmaq_f32(c.value, a.value, b.value)}; }
  static Vector positive(Vector a) { return {vmaxq_f32(a.value, vdupq_n_f32(0.0f))}; }
  static Vector where_positive(Vector gate, Vector a) {
    const uint32x4_t closed = vcleq_f32(gate.value, vdupq_n_f32(0.0f));
    return {vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a.value), closed))};
  }
  static Vector where_equal(Vector x, Vector y, Vector a) {
    const uint32x4_t equal = vceqq_f32(x.value, y.value);
    return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.value), equal))};
  }
  // Where x is larger than y, or the first NaN of both, a; elsewhere b.
  static Vector where_beats(Vector x, Vector y, Vector a, Vector b) {
    const uint32x4_t smaller = vcleq_f32(x.value, y.value);
    const uint32x4_t ordered = vceqq_f32(y.value, y.value);
    return {vbslq_f32(vbicq_u32(ordered, smaller), a.value, b.value)};
  }
  // Lane i is lane lanes[i] of `from`, or where that is negative lane i of `other`.
  static Vector take(const int32_t* lanes, Vector from, Vector other) {
    float source[4], made[4];
    from.store(source);
    other.store(made);
    for (int i = 0; i < 4; ++i)
      if (lanes[i] >= 0) made[i] = source[lanes[i]];
    return load(made);
  }

  // Number i of vector j becomes number j of vector i.
  static void transpose(Vector (&v)[4]) {
    float lanes[4][4];
    for (int i = 0; i < 4; ++i) v[i].store(lanes[i]);
    for (int i = 0; i < 4; ++i) {
      float column[4];
      for (int j = 0; j < 4; ++j) column[j] = lanes[j][i];
      v[i] = load(column);
    }
  }
};
