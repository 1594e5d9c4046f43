// Attention of single queries to cached keys and values, dense or in blocks that a table names: what a decoding step does.
//
// It reads keys and values once, in pieces of PIECE tokens, each with its own maximum and sum; the pieces of a query are
// put together in their order. A result depends neither on the number of threads nor on the other sequences.
#pragma once
#include <vector>

#include "flash.h"

namespace flash {

// Where the keys (or values) of a sequence are.
struct Cache {
  const void *data;
  int64_t first;                   // element of the sequence's first token, without a table
  Strides strides;
  const int32_t *table = nullptr;  // the blocks of the sequence, in order; null if the tokens are behind each other
  int64_t block_size = 1, block = 0;  // tokens of a block, elements from one block to the next

  // The element where the head's numbers of a token begin.
  int64_t place(int64_t token, int64_t head) const {
    const int64_t start = table == nullptr ? first + token * strides.token
                                           : table[token / block_size] * block + token % block_size * strides.token;
    return start + head * strides.head;
  }
};

struct CachedSequence {
  int64_t keys;        // tokens to attend to
  int64_t query, out;  // first elements
  Cache key, value;
  const uint8_t *hidden = nullptr;  // [keys], not 0 where a key is hidden; null for none
};

struct CachedCall {
  Element element;
  int64_t heads, kv_heads, width;
  int64_t query_head, out_head;  // elements from one head to the next
  float scale;
  std::vector<CachedSequence> sequences;
};

// out of `query`; `logarithms` (may be null) has for each sequence and head log(sum(exp(score))), infinite without a key.
void attend_cached(const CachedCall &call, const void *query, void *out, float *logarithms);

}  // namespace flash
