// Attention over a paged KV cache.
//
// A block holds the keys of `block_size` tokens as [kv_heads, head_dim, block_size], so that one vector has the same
// component of consecutive keys, and their values as [kv_heads, block_size, head_dim]. They are floats, or int8.
#pragma once
#include <cstdint>

struct Heads {
  int64_t query, kv, size;  // query heads, key heads, head dimension
};

// The tokens of one step and the block tables of their sequences.
struct Step {
  int64_t count;             // number of tokens
  const int32_t *positions;  // [count] positions in their sequences
  const int32_t *slots;      // [count] slot mapping: block * block_size + offset in the block
  const int32_t *rows;       // [count] row of each token in `tables`
  const int32_t *tables;     // [.., blocks_per_row] block tables: the blocks of each sequence, in order
  int64_t blocks_per_row, block_size, window;  // window 0: a token attends to all before it

  const int32_t *table(int64_t token) const { return tables + rows[token] * blocks_per_row; }
};

// Numbers of a cache, as StepSizes::int8_cache says: floats; int8 with a scale for each token and head; int8 with a scale
// and an offset for each channel, which are the same for all tokens.
enum class CacheKind : int32_t { floats = 0, by_token = 1, by_channel = 2 };

// Scales are [blocks, kv_heads, block_size] by token; by channel [2, kv_heads * size], the offsets after the scales, and
// an integer stands for (q - offset) * scale. Floats have none (null).
struct Cache {
  void *keys, *values;
  CacheKind kind = CacheKind::floats;
  float *key_scales = nullptr, *value_scales = nullptr;
};

// Writes key[count, kv * size] and value[count, kv * size] into their slots.
void write_cache(const Step &step, const Heads &heads, const float *key, const float *value, const Cache &cache);

// attn_output[count, query * size] of query[count, query * size], which is scaled already. A token attends to the
// tokens of its sequence up to itself, all of them in the cache. The result of a token does not depend on the others.
void attend(const Step &step, const Heads &heads, const float *query, const Cache &cache, float *attn_output);
