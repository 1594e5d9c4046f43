// The gradient of attention to one key head, of some of its query heads.
//
// With p the probabilities (after dropout pd), o the results and g their gradient: dv = pd.T g, dp = g v.T,
// ds = p * (dropout(dp) - rows(g * o)), dq = scale ds k, dk = scale ds.T q (Dao, "FlashAttention-2", 2023, algorithm 2).
#pragma once
#include "flash_pack.h"
#include "flash_visible.h"

namespace flash {

constexpr int64_t BLOCK = 128;  // queries, and keys, whose scores are together in the second level cache

// Sums of dk and dv of all keys, per block of BLOCK keys turned: [width, BLOCK] and [value_width, BLOCK].
struct KeyGradients {
  float *memory;
  int64_t width, value_width;  // padded

  float *keys(int64_t first) const { return memory + first * (width + value_width); }
  float *values(int64_t first) const { return keys(first) + width * BLOCK; }
  static int64_t size(int64_t keys, int64_t width, int64_t value_width) {
    return (keys + BLOCK - 1) / BLOCK * BLOCK * (padded(width) + padded(value_width));
  }
};

template <class Products>
class Backward {
 public:
  using Number = typename Products::Number;

  // Memory for sequences of up to `queries` and `keys` tokens.
  Backward(const Call &call, const Visible &visible, const Inputs &inputs, const Saved &saved, const Gradients &gradients,
           int64_t queries, int64_t keys)
      : call_(call), visible_(visible), inputs_(inputs), saved_(saved), gradients_(gradients), width_(padded(call.width)),
        value_width_(padded(call.value_width)), rows_((queries + BLOCK - 1) / BLOCK * BLOCK), packer_(std::max(call.width, call.value_width)),
        keys_(Products::size(width_, padded(keys))), keys_by_depth_(Products::size(width_, padded(keys))),
        values_(Products::size(value_width_, padded(keys))), query_(Products::size(rows_, width_)),
        query_by_depth_(Products::size(rows_, width_)), gradient_(Products::size(rows_, value_width_)),
        gradient_by_depth_(Products::size(rows_, value_width_)), query_gradient_(rows_ * width_), largest_(rows_),
        inverses_(rows_), products_(rows_), scores_(BLOCK * BLOCK), slopes_(BLOCK * BLOCK),
        weights_(Products::size(BLOCK, BLOCK)), slopes_a_(Products::size(BLOCK, BLOCK)), slopes_b_(Products::size(BLOCK, BLOCK)) {}

  // The query heads `heads` first_head .. last_head, added to `sums` (which begin as zeros).
  void run(int64_t sequence, int64_t first_head, int64_t last_head, const KeyGradients &sums) {
    sequence_ = sequence, own_ = &call_.sequences[sequence];
    depth_ = padded(own_->keys), query_depth_ = (own_->queries + BLOCK - 1) / BLOCK * BLOCK;
    pack_keys(first_head / call_.group());
    for (int64_t head = first_head; head < last_head; head++) {
      head_ = head;
      pack_head();
      for (int64_t key = 0; key < own_->keys; key += BLOCK)
        for (int64_t query = 0; query < own_->queries; query += BLOCK) block(query, key, sums);
      write_query_gradient();
    }
  }

 private:
  Matrix matrix(const void *data, int64_t first, const Strides &strides, int64_t head, int64_t rows, int64_t width) const {
    return {call_.element, at(data, call_.element, first + head * strides.head), strides.token, rows, width};
  }

  void pack_keys(int64_t kv_head) {
    const Matrix keys = matrix(inputs_.key, own_->key, call_.key, kv_head, own_->keys, call_.width);
    const Matrix values = matrix(inputs_.value, own_->value, call_.value, kv_head, own_->keys, call_.value_width);
    for (int64_t row = 0; row < own_->keys; row += STEP) {
      packer_.read(keys, row);
      packer_.b_of_rows(keys_.get());
      packer_.b_of_columns(keys_by_depth_.get(), depth_);
      packer_.read(values, row);
      packer_.b_of_rows(values_.get());
    }
  }

  void pack_head() {
    const Matrix query = matrix(inputs_.query, own_->query, call_.query, head_, own_->queries, call_.width);
    const Matrix gradient = matrix(saved_.out_gradient, own_->out, call_.out, head_, own_->queries, call_.value_width);
    const Matrix out = matrix(saved_.out, own_->out, call_.out, head_, own_->queries, call_.value_width);
    const Buffer<float> results(STEP * value_width_);
    for (int64_t row = 0; row < query_depth_; row += STEP) {
      packer_.read(query, row);
      packer_.a_of_rows(query_.get());
      packer_.a_of_columns(query_by_depth_.get(), query_depth_);
      const float *slopes = packer_.read(gradient, row);
      packer_.a_of_rows(gradient_.get());
      packer_.a_of_columns(gradient_by_depth_.get(), query_depth_);
      read_rows(out, row, value_width_, results.get());
      for (int64_t own = 0; own < STEP; own++)
        read_statistics(row + own, slopes + own * value_width_, results.get() + own * value_width_);
    }
    std::fill(query_gradient_.get(), query_gradient_.get() + query_depth_ * width_, 0.0f);
  }

  void read_statistics(int64_t row, const float *slopes, const float *results) {
    Lanes product = {};
    for (int64_t at = 0; at < value_width_; at += LANES) product += load(slopes + at) * load(results + at);
    const bool exists = row < own_->queries;
    const int64_t statistic = own_->statistic + head_ * call_.statistics.head + row * call_.statistics.token;
    const float total = exists ? saved_.sums[statistic] : 0.0f;
    products_.get()[row] = sum(product);
    largest_.get()[row] = exists ? saved_.largest[statistic] : 0.0f;
    inverses_.get()[row] = total > 0 ? 1.0f / total : 0.0f;
  }

  // The queries from `first`, the keys from `key`.
  void block(int64_t first, int64_t key, const KeyGradients &sums) {
    const int64_t rows = std::min(BLOCK, padded(own_->queries) - first);
    Span spans[BLOCK / STEP];
    for (int64_t row = 0; row < rows; row += STEP) {
      Span &span = spans[row / STEP] = visible_.span(sequence_, head_, first + row, key, key + BLOCK);
      if (!span.empty()) slopes(first, row, key, span);
    }
    for (int64_t row = 0; row < rows;) {  // neighbors that see the same keys together
      const Span &span = spans[row / STEP];
      int64_t end = row + STEP;
      while (end < rows && spans[end / STEP].begin == span.begin && spans[end / STEP].end == span.end) end += STEP;
      if (!span.empty()) add(first, row, end - row, key, span, sums);
      row = end;
    }
  }

  // Weights and gradients of the scores of STEP queries.
  void slopes(int64_t first, int64_t row, int64_t key, const Span &span) {
    const int64_t count = span.end - span.begin;
    float *scores = scores_.get() + row * BLOCK, *slopes = slopes_.get() + row * BLOCK;
    Products::product(Products::a_at(query_.get(), width_, first + row, 0), width_,
                      Products::b_at(keys_.get(), width_, span.begin, 0), width_, scores, BLOCK, STEP, count, width_, false);
    Products::product(Products::a_at(gradient_.get(), value_width_, first + row, 0), value_width_,
                      Products::b_at(values_.get(), value_width_, span.begin, 0), value_width_, slopes, BLOCK, STEP, count,
                      value_width_, false);
    if (span.mixed) visible_.hide(sequence_, head_, first + row, span, BLOCK, scores);
    for (int64_t own = 0; own < STEP; own += 2) {
      if (call_.drop == nullptr) pair<false>(first, row + own, key, span);
      else pair<true>(first, row + own, key, span);
    }
  }

  template <bool DROPS>
  void pair(int64_t first, int64_t row, int64_t block, const Span &span) {
    for (int64_t key = span.begin; key < span.end; key += STEP) {
      Lanes weights[2][VECTORS], slopes[2][VECTORS];
      for (int both = 0; both < 2; both++) {
        const int64_t query = first + row + both;
        const int64_t place = (row + both) * BLOCK + key - span.begin;
        const Lanes peak = all(largest_.get()[query]), inverse = all(inverses_.get()[query]), product = all(products_.get()[query]);
        load_step(slopes_.get() + place, slopes[both]);
        Lanes kept[VECTORS];
        for (int vector = 0; vector < VECTORS; vector++) {
          const Lanes score = load(scores_.get() + place + vector * LANES);
          kept[vector] = weights[both][vector] = power_of_e<Products::PRECISE>(score * call_.scale - peak) * inverse;
        }
        if constexpr (DROPS) {
          const uint32_t bits = visible_.kept(sequence_, head_, query, key);
          drop(bits, 1.0f / call_.keep, weights[both]);
          drop(bits, 1.0f / call_.keep, slopes[both]);
        }
        for (int vector = 0; vector < VECTORS; vector++) slopes[both][vector] = kept[vector] * (slopes[both][vector] - product);
        Products::put_a(slopes_a_.get(), BLOCK, row + both, key - block, slopes[both]);
      }
      Products::put_b(weights_.get(), BLOCK, row, key - block, weights);
      Products::put_b(slopes_b_.get(), BLOCK, row, key - block, slopes);
    }
  }

  // Products of the weights and gradients of `rows` queries.
  void add(int64_t first, int64_t row, int64_t rows, int64_t key, const Span &span, const KeyGradients &sums) {
    const int64_t count = span.end - span.begin, column = span.begin - key;
    Products::product(Products::a_at(gradient_by_depth_.get(), query_depth_, 0, first + row), query_depth_,
                      Products::b_at(weights_.get(), BLOCK, column, row), BLOCK, sums.values(key) + column, BLOCK,
                      value_width_, count, rows, true);
    Products::product(Products::a_at(query_by_depth_.get(), query_depth_, 0, first + row), query_depth_,
                      Products::b_at(slopes_b_.get(), BLOCK, column, row), BLOCK, sums.keys(key) + column, BLOCK, width_,
                      count, rows, true);
    Products::product(Products::a_at(slopes_a_.get(), BLOCK, row, column), BLOCK,
                      Products::b_at(keys_by_depth_.get(), depth_, 0, span.begin), depth_,
                      query_gradient_.get() + (first + row) * width_, width_, rows, width_, count, true);
  }

  void write_query_gradient() const {
    for (int64_t row = 0; row < own_->queries; row++) {
      const int64_t to = own_->query + head_ * call_.query.head + row * call_.query.token;
      write_row(call_.element, query_gradient_.get() + row * width_, call_.scale, call_.width, at(gradients_.query, call_.element, to));
    }
  }

  const Call &call_;
  const Visible &visible_;
  const Inputs &inputs_;
  const Saved &saved_;
  const Gradients &gradients_;
  const int64_t width_, value_width_, rows_;
  Packer<Products> packer_;
  Buffer<Number> keys_, keys_by_depth_, values_;                               // of the key head
  Buffer<Number> query_, query_by_depth_, gradient_, gradient_by_depth_;       // of the query head
  Buffer<float> query_gradient_, largest_, inverses_, products_;               // [S, width], [S]
  Buffer<float> scores_, slopes_;                                              // [BLOCK queries, BLOCK keys]
  Buffer<Number> weights_, slopes_a_, slopes_b_;
  const Sequence *own_ = nullptr;
  int64_t sequence_ = 0, head_ = 0, depth_ = 0, query_depth_ = 0;
};

}  // namespace flash
