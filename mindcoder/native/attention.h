// Attention over a paged key and value cache.
//
// A block holds the keys of `block_size` tokens as [kv_heads, head_dim, block_size], so that one vector has the same
// component of neighbouring keys, and their values as [kv_heads, block_size, head_dim].
#pragma once
#include <cstdint>

struct Heads {
  int64_t query, kv, size;  // query heads, key heads, numbers a head
};

// The tokens of one step and where their sequences' blocks lie.
struct Step {
  int64_t count;             // tokens
  const int32_t *positions;  // [count] places in their sequences
  const int32_t *slots;      // [count] places in the cache: block * block_size + place in the block
  const int32_t *rows;       // [count] rows of `tables`
  const int32_t *tables;     // [.., blocks_per_row] numbers of the blocks of each sequence, in order
  int64_t blocks_per_row, block_size, window;  // window 0: a token sees all before it

  const int32_t *table(int64_t token) const { return tables + rows[token] * blocks_per_row; }
};

// Puts key[count, kv * size] and value[count, kv * size] into their slots.
void write_cache(const Step &step, const Heads &heads, const float *key, const float *value, float *keys, float *values);

// attended[count, query * size] of query[count, query * size], which is scaled already. A token sees the tokens of its
// sequence up to itself, all of them in the cache. A row's result does not depend on the other rows.
void attend(const Step &step, const Heads &heads, const float *query, const float *keys, const float *values,
            float *attended);
