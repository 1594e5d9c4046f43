// float16 and bfloat16 as 16 bits, converted to and from float32; to 16 bits rounds to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

namespace softcann {

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// IEEE 754 binary16: 1 sign, 5 exponent, 10 mantissa bits; beyond 65504 it becomes infinity.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);    // NaN
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);   // rounds to 65536 or more
  if (magnitude < 0x38800000) {                                               // below 2^-14: a subnormal half
    // Adding 0.5 puts the unit of the half's mantissa, 2^-24, in the float's last bit: the adder rounds for us.
    const float shifted = float_of(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bits_of(shifted) - bits_of(0.5f)));
  }
  const uint32_t odd = magnitude >> 13 & 1;
  return static_cast<uint16_t>(sign | ((magnitude - (112u << 23) + 0xfff + odd) >> 13));
}

inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 0x1f, mantissa = half & 0x3ff;
  if (exponent == 0x1f) return float_of(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * (1.0f / 16777216.0f);
    return sign ? -value : value;
  }
  return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

// The upper half of a float32: 1 sign, 8 exponent, 7 mantissa bits.
inline uint16_t float_to_bfloat(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // NaN stays one
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct float16 {
  uint16_t bits;
  float16() = default;
  float16(float value) : bits(float_to_half(value)) {}
  operator float() const { return half_to_float(bits); }
};

struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  bfloat16(float value) : bits(float_to_bfloat(value)) {}
  operator float() const { return float_of(static_cast<uint32_t>(bits) << 16); }
};

}  // namespace softcann
