// Flash attention for training: attention of queries to keys without the S x T scores, and its gradient
// (Dao, "FlashAttention-2", 2023: blocks of keys, a running maximum and sum per query, scores computed again backward).
//
// Layouts are strides, so that BSH, BSND, BNSD, SBH and TND (documents behind each other) are one code: element `at` of
// head `head` of token `token` of a sequence lies at data[first + token * strides.token + head * strides.head + at].
//
// Results do not depend on the number of threads: every sum has one order. A sequence's results do not depend on the
// others of a call either, but for the gradient of keys that several query heads share (flash_backward.cpp, `ENOUGH`).
#pragma once
#include <cstdint>
#include <vector>

namespace flash {

enum class Element { float32, float16, bfloat16 };

inline int64_t bytes_of(Element element) { return element == Element::float32 ? 4 : 2; }

struct Strides {
  int64_t token, head;  // in elements
};

// One row of a batch, or one document of packed ones.
struct Sequence {
  int64_t queries, keys;                    // tokens, S and T
  int64_t query, key, value, out, statistic;  // first elements in the tensors
  int64_t drop_bit;                         // first bit of the dropout mask, which is [N, S, T] here
  int64_t shift;                            // query i is at the position of key i + shift
  const uint8_t *hidden = nullptr;          // [S, T] or [N, S, T], not 0 where a key is hidden; null for none
  const int32_t *table = nullptr;           // blocks of its keys and values, in order, if they are paged (`attend` alone)
};

struct Call {
  Element element;
  int64_t heads, kv_heads;      // N and K; N / K heads share a key head
  int64_t width, value_width;   // D of queries and keys, of values and results
  float scale;                  // of the scores, above 0
  float keep = 1.0f;            // probabilities that are kept are divided by it
  const uint8_t *drop = nullptr;  // bits, 1 where a probability is kept; null for no dropout
  Strides query, key, value, out, statistics;
  int64_t hidden_row = 0, hidden_head = 0;  // strides of `Sequence::hidden`
  int64_t below = UNBOUNDED, above = UNBOUNDED;  // query i sees keys i + shift - below to i + shift + above
  int64_t block_size = 1, block = 0;  // of paged keys and values: tokens, elements from one block to the next
  std::vector<Sequence> sequences;

  static constexpr int64_t UNBOUNDED = INT64_MAX / 4;
  int64_t group() const { return heads / kv_heads; }
};

constexpr int64_t COPIES = 8;            // of each statistic, as Ascend's operator has them
constexpr float LOWEST = -3.402823466e38f;  // the largest score of a query that sees no key; its sum is 0, its result 0

struct Inputs {
  const void *query, *key, *value;
};

// `largest` is each query's largest scaled score, `sums` the sum of exp(score - largest); both may be null.
struct Results {
  void *out;
  float *largest, *sums;
};

void attend(const Call &call, const Inputs &inputs, const Results &results);

struct Saved {
  const void *out_gradient, *out;
  const float *largest, *sums;
};

struct Gradients {
  void *query, *key, *value;
};

void differentiate(const Call &call, const Inputs &inputs, const Saved &saved, const Gradients &gradients);

}  // namespace flash
