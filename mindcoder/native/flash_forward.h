// One block of queries of one head, against all keys that it sees.
#pragma once
#include "flash_pack.h"
#include "flash_visible.h"

namespace flash {

// Queries of a block share what the cache holds of keys; scores of STEP queries and KEYS keys stay in the first level.
constexpr int64_t QUERIES = 128, KEYS = 128;

// Keys and values of one key head of one sequence as right operands.
template <class Products>
struct PackedKeys {
  typename Products::Number *keys, *values;  // b[width as depth, keys] and b[keys as depth, value_width]
  int64_t depth;                             // padded number of keys
};

template <class Products>
class Forward {
 public:
  using Number = typename Products::Number;

  Forward(const Call &call, const Visible &visible, const Inputs &inputs, const Results &results)
      : call_(call), visible_(visible), inputs_(inputs), results_(results), width_(padded(call.width)),
        value_width_(padded(call.value_width)), packer_(call.width), query_(Products::size(QUERIES, width_)),
        weights_(Products::size(STEP, KEYS)), scores_(STEP * KEYS), sums_(QUERIES * value_width_) {}

  void run(int64_t sequence, int64_t head, int64_t first, const PackedKeys<Products> &packed) {
    const Sequence &own = call_.sequences[sequence];
    const int64_t rows = std::min(QUERIES, own.queries - first);
    pack_query(own, head, first, rows);
    std::fill(sums_.get(), sums_.get() + padded(rows) * value_width_, 0.0f);
    std::fill(largest_, largest_ + QUERIES, LOWEST);
    std::fill(totals_, totals_ + QUERIES, Lanes{});
    const Span reach = visible_.bounds(sequence, first, first + rows);
    for (int64_t begin = reach.begin / KEYS * KEYS; begin < reach.end; begin += KEYS) {
      for (int64_t row = 0; row < rows; row += STEP) {
        const Span span = visible_.span(sequence, head, first + row, begin, begin + KEYS);
        if (!span.empty()) add(sequence, head, first, row, span, packed);
      }
    }
    for (int64_t row = 0; row < rows; row++) finish(own, head, first + row, row);
  }

 private:
  void pack_query(const Sequence &own, int64_t head, int64_t first, int64_t rows) {
    const int64_t start = own.query + head * call_.query.head + first * call_.query.token;
    const Matrix query{call_.element, at(inputs_.query, call_.element, start), call_.query.token, rows, call_.width};
    for (int64_t row = 0; row < rows; row += STEP) {
      packer_.read(query, row);
      packer_.a_of_rows(query_.get());
    }
  }

  // Adds the keys of `span` to the results of the STEP queries from `row` of the block.
  void add(int64_t sequence, int64_t head, int64_t first, int64_t row, const Span &span, const PackedKeys<Products> &packed) {
    const int64_t count = span.end - span.begin;
    Products::product(Products::a_at(query_.get(), width_, row, 0), width_,
                      Products::b_at(packed.keys, width_, span.begin, 0), width_, scores_.get(), KEYS, STEP, count, width_, false);
    if (span.mixed) visible_.hide(sequence, head, first + row, span, KEYS, scores_.get());
    raise(row, count);
    for (int64_t own = 0; own < STEP; own++) {
      if (call_.drop == nullptr) weigh<false>(sequence, head, first, row, own, span);
      else weigh<true>(sequence, head, first, row, own, span);
    }
    Products::product(weights_.get(), KEYS, Products::b_at(packed.values, packed.depth, 0, span.begin), packed.depth,
                      sums_.get() + row * value_width_, value_width_, STEP, value_width_, count, true);
  }

  // Brings the running maxima of STEP queries up to date, and what was summed up with the old ones.
  void raise(int64_t row, int64_t count) {
    float found[STEP], old[STEP], factors[STEP];
    for (int64_t own = 0; own < STEP; own++) {
      const float *scores = scores_.get() + own * KEYS;
      Lanes highest = load(scores);
      for (int64_t key = LANES; key < count; key += LANES) highest = maximum(highest, load(scores + key));
      found[own] = largest_of(highest) * call_.scale;
    }
    for (int64_t own = 0; own < STEP; own += LANES) {
      const Lanes before = load(largest_ + row + own), now = maximum(before, load(found + own));
      store(old + own, before);
      store(largest_ + row + own, now);
      store(factors + own, power_of_e<true>(before - now));
    }
    for (int64_t own = 0; own < STEP; own++) {
      if (factors[own] == 1.0f || old[own] == LOWEST) continue;  // nothing changed, or there is nothing yet
      totals_[row + own] *= factors[own];
      float *sums = sums_.get() + (row + own) * value_width_;
      for (int64_t at = 0; at < value_width_; at += LANES) store(sums + at, load(sums + at) * factors[own]);
    }
  }

  static float largest_of(Lanes values) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)values);
#else
    return largest(values);
#endif
  }

  // The weights of a query, from its scores.
  template <bool DROPS>
  void weigh(int64_t sequence, int64_t head, int64_t first, int64_t row, int64_t own, const Span &span) {
    const float *scores = scores_.get() + own * KEYS;
    const Lanes peak = all(largest_[row + own]);
    const float scale = call_.scale;
    Lanes total = {};
    for (int64_t key = 0; key < span.end - span.begin; key += STEP) {
      Lanes weights[VECTORS];
      for (int vector = 0; vector < VECTORS; vector++) {
        weights[vector] = power_of_e<Products::PRECISE>(load(scores + key + vector * LANES) * scale - peak);
        total += weights[vector];
      }
      if constexpr (DROPS) drop(visible_.kept(sequence, head, first + row + own, span.begin + key), 1.0f / call_.keep, weights);
      Products::put_a(weights_.get(), KEYS, own, key, weights);
    }
    totals_[row + own] += total;
  }

  void finish(const Sequence &own, int64_t head, int64_t query, int64_t row) {
    const float total = sum(totals_[row]);
    const float *sums = sums_.get() + row * value_width_;
    const int64_t start = own.out + head * call_.out.head + query * call_.out.token;
    write_row(call_.element, sums, total > 0 ? 1.0f / total : 0.0f, call_.value_width, at(results_.out, call_.element, start));
    if (results_.largest == nullptr) return;
    const int64_t statistic = own.statistic + head * call_.statistics.head + query * call_.statistics.token;
    std::fill(results_.largest + statistic, results_.largest + statistic + COPIES, largest_[row]);
    std::fill(results_.sums + statistic, results_.sums + statistic + COPIES, total);
  }

  const Call &call_;
  const Visible &visible_;
  const Inputs &inputs_;
  const Results &results_;
  const int64_t width_, value_width_;
  Packer<Products> packer_;
  Buffer<Number> query_, weights_;
  Buffer<float> scores_, sums_;
  float largest_[QUERIES];
  Lanes totals_[QUERIES];
};

}  // namespace flash
