// What all attention operators share: layouts as views (B, N, S, D), masks by sparse mode, one head forward and backward.
#pragma once

#include "moving.h"

namespace softcann {

// Sizes of one call; key and value heads divide the query heads (grouped queries).
struct Heads {
  int64_t batch = 0, heads = 0, kv_heads = 0, q_length = 0, kv_length = 0, width = 0, value_width = 0;
};

// A tensor in layout BSH, SBH, BSND or BNSD as (B, N, S, D); for TND one sequence from row `first`, `length` rows.
View headed(const Tensor* tensor, const std::string& layout, int64_t heads);
View headed_rows(const Tensor* tensor, int64_t first, int64_t length);

// Which keys a query sees by its sparse mode, without the mask's own values: j from first to last (exclusive) for query i.
struct Band {
  int64_t below = INT64_MAX / 4, above = INT64_MAX / 4;  // i + shift - below <= j <= i + shift + above
  int64_t shift = 0;
  bool sees(int64_t i, int64_t j) const { return j >= i + shift - below && j <= i + shift + above; }
};

// The mask of one call. Modes 2 to 4 take a compressed 2048 x 2048 mask of ones above the diagonal, whose place alone
// matters; modes 0 and 1 the values, 1 where a key is hidden.
struct Mask {
  const Tensor* tensor = nullptr;
  int64_t mode = 0, pre_tokens = 0, next_tokens = 0;
  bool compressed() const { return mode >= 2; }
  Band band(int64_t q_length, int64_t kv_length) const;
};

// Refuses a sparse mode that is not 0 to 4, a mode without its mask, and shapes that are not documented: `shapes` for the
// modes 0 and 1, (2048, 2048) for the others.
void require_mask(const Mask& mask, const char* name, const std::vector<Shape>& shapes, bool may_lack);
// Fails where a compressed mask has not ones above the diagonal and zeros elsewhere (looked at in four rows).
void check_compressed(const Mask& mask);

// One head: q (q_length, width), k (kv_length, width), v (kv_length, value_width), all contiguous.
struct Head {
  const float *q, *k, *v;
  int64_t q_length, kv_length, width, value_width;
  float scale;
  const uint8_t* hidden;        // (q_length, kv_length), 1 where a key is hidden
  const uint8_t* dropped;       // as hidden, or null
  float keep = 1;               // kept probabilities are divided by it
};

// out (q_length, value_width), and of each row the largest score and the sum of exp(score - largest).
void attend(const Head& head, float* out, float* largest, float* sums);
// Gradients are added to dq, dk and dv; `out`, `largest` and `sums` are those of the forward pass.
void attend_backward(const Head& head, const float* dout, const float* out, const float* largest, const float* sums, float* dq,
                     float* dk, float* dv);

}  // namespace softcann
