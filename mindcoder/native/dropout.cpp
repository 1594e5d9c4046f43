// The bits of attention's dropout mask: mindcoder/backend/dropout.py's hash of seed and index, so that resuming and
// recomputing repeat it, on any number of threads, and attention without a fused kernel drops the same.
#include <algorithm>
#include <vector>

#include "arguments.h"
#include "operator_list.h"

namespace {

// x ^ (x >> shift), the shift arithmetic.
inline uint32_t folded(uint32_t x, int shift) { return x ^ static_cast<uint32_t>(static_cast<int32_t>(x) >> shift); }

// Jarzynski and Olano, "Hash Functions for GPU Rendering" (2020): PCG. The sign is clear.
inline int32_t mixed(uint32_t value) {
  value = value * 747796405u + 2891336453u;
  return static_cast<int32_t>(folded(folded(value, 15) * 277803737u, 13));
}

}  // namespace

// nothing [0, bytes]; sizes int64 [B, K, G, S, T]; threshold, seed and the site's offset, int32 -> uint8 [bytes], the lowest
// bit first: bit ((b K + k) G + g) S + s) T + t is 1 where the hash of ((b K + k) S + s) G + g) T + t reaches the threshold.
void counter_bits(const Arguments &arguments) {
  using Index = argument::CounterBits;
  if (arguments.size(Index::sizes) != 5) arguments.refuse(Index::sizes, "expected five sizes");
  const int64_t *sizes = arguments.data<int64_t>(Index::sizes);
  const int64_t heads = sizes[0] * sizes[1], group = sizes[2], length = sizes[3], total = sizes[4];
  const int32_t threshold = arguments.data<int32_t>(Index::threshold)[0];
  const uint32_t offset = static_cast<uint32_t>(arguments.data<int32_t>(Index::seed)[0]) +
                          static_cast<uint32_t>(arguments.data<int32_t>(Index::site_offset)[0]);
  const uint32_t seed = static_cast<uint32_t>(mixed(offset));
  uint8_t *bytes = arguments.data<uint8_t>(Index::bits);
  const int64_t rows = heads * group * length;
  if (arguments.size(Index::bits) * 8 < rows * total) arguments.refuse(Index::bits, "expected a bit for each probability");
  parallel_for((rows + 7) / 8, 1, 8 * total, [&](int64_t begin, int64_t end) {  // eight rows end with a whole byte
    std::vector<uint8_t> kept(8 * total);
    for (int64_t eight = begin; eight < end; eight++) {
      std::fill(kept.begin(), kept.end(), uint8_t{0});
      for (int64_t row = eight * 8; row < std::min(eight * 8 + 8, rows); row++) {
        const int64_t position = row % length, member = row / length % group, head = row / length / group;
        const uint32_t first = static_cast<uint32_t>(((head * length + position) * group + member) * total) + seed;
        uint8_t *to = kept.data() + (row - eight * 8) * total;
        for (int64_t at = 0; at < total; at++) to[at] = mixed(first + static_cast<uint32_t>(at)) >= threshold;
      }
      for (int64_t byte = 0; byte < total && eight * total + byte < arguments.size(Index::bits); byte++) {
        int bits = 0;
        for (int bit = 0; bit < 8; bit++) bits |= kept[byte * 8 + bit] << bit;
        bytes[eight * total + byte] = static_cast<uint8_t>(bits);
      }
    }
  });
}
