// The bits of a dropout mask, from a counter: bit i depends on the seed and on offset + i alone, so that resuming and
// recomputing repeat it, on any number of threads.
#include "arguments.h"
#include "operator_list.h"

namespace {

constexpr int64_t PIECE = 64;  // bits that are drawn together

// The mixing function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
inline uint64_t mixed(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

constexpr uint64_t STEP = 0x9E3779B97F4A7C15u;

}  // namespace

// nothing [0, bytes], p, seed, offset -> uint8 [bytes], whose lowest bit comes first; 1 is kept, with 1 - p.
void dropout_bits(const Arguments &arguments) {
  arguments.expect_count(5);
  const double rate = arguments.number(1);
  if (!(rate >= 0.0 && rate <= 1.0)) arguments.refuse(1, "expected a probability");
  const uint64_t seed = mixed(static_cast<uint64_t>(arguments.integer(2))), offset = static_cast<uint64_t>(arguments.integer(3));
  const uint64_t threshold = static_cast<uint64_t>(rate * 4294967296.0);
  uint8_t *bytes = arguments.data<uint8_t>(4);
  const int64_t size = arguments.size(4), pieces = (size + PIECE / 8 - 1) / (PIECE / 8);
  parallel_for(pieces, 16, PIECE, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; piece++) {
      uint8_t kept[PIECE];
      for (int64_t at = 0; at < PIECE; at++) {
        const uint64_t number = mixed(seed + STEP * (offset + static_cast<uint64_t>(piece * PIECE + at)));
        kept[at] = (number >> 32) >= threshold;
      }
      const int64_t first = piece * (PIECE / 8), count = std::min(PIECE / 8, size - first);
      for (int64_t at = 0; at < count; at++) {
        uint8_t byte = 0;
        for (int bit = 0; bit < 8; bit++) byte |= static_cast<uint8_t>(kept[at * 8 + bit] << bit);
        bytes[first + at] = byte;
      }
    }
  });
}
