// The fastest way to multiply that this processor has for numbers of a dtype.
#pragma once
#include "flash_brains.h"
#include "flash_floats.h"
#include "tiles.h"

namespace flash {

// Calls work(Products{}).
template <class Work>
void with_products(Element element, const Work &work) {
#if defined(FLASH_TILES)
  if (tiles_available()) {
    if (element == Element::bfloat16) return work(TileProducts<1>{});
    return work(TileProducts<3>{});
  }
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512BF16__)
  if (element == Element::bfloat16) return work(BrainProducts{});
#endif
  work(FloatProducts{});
}

}  // namespace flash
