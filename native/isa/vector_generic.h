// Four floats as any compiler makes them.
#pragma once

#include <cstdint>

struct Vector {
  static constexpr int kWidth = 4;
  static constexpr int kTileRows = 4;
  static constexpr int kTileVectors = 2;

  float value[4];

  static Vector zero() { return {{0.0f, 0.0f, 0.0f, 0.0f}}; }
  static Vector all(float x) { return {{x, x, x, x}}; }
  static Vector load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static Vector load(const float* p, int count) {
    Vector made = zero();
    for (int i = 0; i < count; ++i) made.value[i] = p[i];
    return made;
  }
  void store(float* p) const { store(p, 4); }
  void store(float* p, int count) const {
    for (int i = 0; i < count; ++i) p[i] = value[i];
  }
  template <class Index>
  static Vector load_index(const Index* p) {
    Vector made;
    for (int i = 0; i < 4; ++i) made.value[i] = static_cast<float>(p[i]);
    return made;
  }
  static Vector load(const uint8_t* p) { return load_index(p); }
  static Vector load(const uint16_t* p) { return load_index(p); }
  static Vector load(const Bfloat16* p) { return load(p, 4); }
  static Vector load(const Bfloat16* p, int count) {
    Vector made = zero();
    for (int i = 0; i < count; ++i) made.value[i] = widened(p[i]);
    return made;
  }
  void store(Bfloat16* p) const { store(p, 4); }
  void store(Bfloat16* p, int count) const {
    for (int i = 0; i < count; ++i) p[i] = narrowed(value[i]);
  }

  friend Vector operator+(Vector a, Vector b) {
    for (int i = 0; i < 4; ++i) a.value[i] += b.value[i];
    return a;
  }
  friend Vector operator-(Vector a, Vector b) {
    for (int i = 0; i < 4; ++i) a.value[i] -= b.value[i];
    return a;
  }
  friend Vector operator*(Vector a, Vector b) {
    for (int i = 0; i < 4; ++i) a.value[i] *= b.value[i];
    return a;
  }
  static Vector multiply_add(Vector a, Vector b, Vector c) {
    for (int i = 0; i < 4; ++i) c.value[i] += a.value[i] * b.value[i];
    return c;
  }
  static Vector positive(Vector a) {
    for (float& x : a.value) x = x < 0.0f ? 0.0f : x;
    return a;
  }
  static Vector where_positive(Vector gate, Vector a) {
    for (int i = 0; i < 4; ++i) a.value[i] = gate.value[i] <= 0.0f ? 0.0f : a.value[i];
    return a;
  }
  static Vector where_equal(Vector x, Vector y, Vector a) {
    for (int i = 0; i < 4; ++i) a.value[i] = x.value[i] == y.value[i] ? a.value[i] : 0.0f;
    return a;
  }
  // Where x is larger than y, or the first NaN of both, a; elsewhere b.
  static Vector where_beats(Vector x, Vector y, Vector a, Vector b) {
    for (int i = 0; i < 4; ++i) {
      const bool beats = !(x.value[i] <= y.value[i]) && y.value[i] == y.value[i];
      b.value[i] = beats ? a.value[i] : b.value[i];
    }
    return b;
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
