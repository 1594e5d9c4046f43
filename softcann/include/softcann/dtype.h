// Element types, numbered as aclDataType of the CANN application API ("aclDataType", Ascend Computing Language reference).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "softcann/half.h"

namespace softcann {

enum class Dtype : int32_t {
  undefined = -1,
  float32 = 0,
  float16 = 1,
  int8 = 2,
  int32 = 3,
  uint8 = 4,
  int16 = 6,
  uint16 = 7,
  uint32 = 8,
  int64 = 9,
  uint64 = 10,
  float64 = 11,
  boolean = 12,
  complex64 = 16,
  complex128 = 17,
  bfloat16 = 27,
  int4 = 29,
};

// A set of dtypes, one bit each; what an argument's documentation lists.
using Dtypes = uint64_t;
constexpr Dtypes only(Dtype dtype) { return 1ull << static_cast<int32_t>(dtype); }
constexpr Dtypes kFloat32 = only(Dtype::float32);
constexpr Dtypes kFloat16 = only(Dtype::float16);
constexpr Dtypes kBfloat16 = only(Dtype::bfloat16);
constexpr Dtypes kFloat64 = only(Dtype::float64);
constexpr Dtypes kInt8 = only(Dtype::int8);
constexpr Dtypes kUint8 = only(Dtype::uint8);
constexpr Dtypes kInt16 = only(Dtype::int16);
constexpr Dtypes kInt32 = only(Dtype::int32);
constexpr Dtypes kInt64 = only(Dtype::int64);
constexpr Dtypes kBool = only(Dtype::boolean);
constexpr Dtypes kFloats = kFloat32 | kFloat16 | kBfloat16;
constexpr Dtypes kInts = kInt8 | kUint8 | kInt16 | kInt32 | kInt64;
constexpr bool contains(Dtypes set, Dtype dtype) {
  return static_cast<int32_t>(dtype) >= 0 && (set >> static_cast<int32_t>(dtype) & 1);
}

size_t size_of(Dtype dtype);          // bytes of an element; 0 for a dtype that softcann has no elements of
const char* name_of(Dtype dtype);     // "float32"
std::string names_of(Dtypes dtypes);  // "float32, float16, bfloat16"

// Calls work(T()) with the C++ type of dtype; false when there is none.
template <class Work>
bool dispatch(Dtype dtype, Work&& work) {
  switch (dtype) {
    case Dtype::float32: work(float()); return true;
    case Dtype::float16: work(float16(0.0f)); return true;
    case Dtype::bfloat16: work(bfloat16(0.0f)); return true;
    case Dtype::float64: work(double()); return true;
    case Dtype::int8: work(int8_t()); return true;
    case Dtype::uint8: work(uint8_t()); return true;
    case Dtype::int16: work(int16_t()); return true;
    case Dtype::uint16: work(uint16_t()); return true;
    case Dtype::int32: work(int32_t()); return true;
    case Dtype::uint32: work(uint32_t()); return true;
    case Dtype::int64: work(int64_t()); return true;
    case Dtype::uint64: work(uint64_t()); return true;
    case Dtype::boolean: work(bool()); return true;
    default: return false;
  }
}

}  // namespace softcann
