// The exponential and what is made of it, in arithmetic alone and always inline, so that loops of them become
// vectors, which calls of the C library do not.
#define HUBEL_INLINE [[gnu::always_inline]] static inline

// eˣ = scale + scale·rest for x ≤ 0, below 2⁻¹²⁶ nothing: in arithmetic alone, so that loops of it become
// vectors. With k the nearest whole number to x/ln 2, scale is 2ᵏ and rest is eʳ − 1 of r = x − k·ln 2, taken
// off in two parts of which the first times k is exact (Cody and Waite 1980). |r| ≤ ½·ln 2, where Taylor's
// series to r⁷ is off by 5·10⁻⁹.
struct Power {
  float scale, rest;
};

HUBEL_INLINE Power power(float x) {
  constexpr float kWhole = 12582912.0f;  // 1.5·2²³: the last bit of a sum with it is worth 1
  const float above = x < -88.0f ? -88.0f : x;
  const float shifted = above * 1.44269504f + kWhole, k = shifted - kWhole;
  const float r = (above - k * 0.693145751953125f) - k * 1.42860677e-6f;
  const float series =
      0.5f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f + r * (1 / 5040.0f)))));
  const auto exponent = __builtin_bit_cast(uint32_t, shifted) - __builtin_bit_cast(uint32_t, kWhole) + 127;
  return {__builtin_bit_cast(float, exponent << 23), r + r * r * series};
}

HUBEL_INLINE float exponential(float x) {
  const Power e = power(x);
  return e.scale + e.scale * e.rest;
}

HUBEL_INLINE float exponential_less_one(float x) {
  const Power e = power(x);
  return e.scale * e.rest + (e.scale - 1.0f);
}

HUBEL_INLINE float sigmoid(float x) {
  const float e = exponential(-fabsf(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

HUBEL_INLINE float hyperbolic_tangent(float x) {
  const float less = exponential_less_one(-2.0f * fabsf(x)), size = -less / (2.0f + less);
  return x < 0.0f ? -size : size;
}

// The normal distribution's share below x, and its density there.
struct Gauss {
  float share, density;
};

// The share beyond |x| is e^(−½x²) times a slowly falling function, which a polynomial in u = 1/(1 +
// 0.35·|x|) meets within 3.2·10⁻⁸ of itself up to 14.5, beyond which nothing is left; coefficients by
// minimax.
HUBEL_INLINE Gauss gauss(float x) {
  constexpr float kGaussPeak = 0.39894228040143268f;  // 1/√(2π)
  constexpr float kTail[] = {0.139621302f, 0.139863536f,  0.119821183f, 0.105552927f,  -0.0232133940f,
                             0.159321249f, -0.255840391f, 0.144031614f, -0.0291580297f};
  const float bell = exponential(-0.5f * x * x), u = 1.0f / (1.0f + 0.35f * fabsf(x));
  float tail = kTail[8];
  for (int i = 7; i >= 0; --i) tail = tail * u + kTail[i];
  tail *= bell * u;
  return {x < 0.0f ? tail : 1.0f - tail, kGaussPeak * bell};
}
