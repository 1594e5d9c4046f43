// The fastest way to multiply that this processor has for numbers of a dtype.
#pragma once
#include <cstdlib>

#include "flash_bfloat16.h"
#include "flash_floats.h"
#include "amx.h"

namespace flash {

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512BF16__)
// AVX512-BF16 loses to float32 on Intel's processors, see gemm_pairs.cpp. MINDCODER_PAIRS=1 uses it anyway, for tests.
inline bool pairs_pay() {
  static const bool pay = [] {
    const char *asked = std::getenv("MINDCODER_PAIRS");
    return asked != nullptr ? asked[0] == '1' : __builtin_cpu_is("amd") != 0;
  }();
  return pay;
}
#endif

// Calls work(Products{}).
template <class Work>
void with_products(Element element, const Work &work) {
#if defined(FLASH_AMX)
  if (amx_available()) {
    if (element == Element::bfloat16) return work(AmxProducts<1>{});
    return work(AmxProducts<3>{});
  }
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512BF16__)
  if (element == Element::bfloat16 && pairs_pay()) return work(Bfloat16Products{});
#endif
  work(FloatProducts{});
}

}  // namespace flash
