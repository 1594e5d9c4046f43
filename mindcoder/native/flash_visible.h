// Which keys a query sees: the causal order, windows, masks and dropout, in steps of STEP x STEP tokens.
#pragma once
#include <cstdint>
#include <vector>

#include "flash.h"

namespace flash {

// The keys of a block that any of some queries sees, at multiples of STEP. `mixed`: some are hidden from some of them.
struct Span {
  int64_t begin, end;
  bool mixed;
  bool empty() const { return begin >= end; }
};

class Visible {
 public:
  explicit Visible(const Call &call);

  // Of the keys begin .. end, for the STEP queries from `row`.
  Span span(int64_t sequence, int64_t head, int64_t row, int64_t begin, int64_t end) const;

  // All keys that the queries first .. last (exclusive) may see by their order alone, for the bounds of loops.
  Span bounds(int64_t sequence, int64_t first, int64_t last) const;

  // Sets the scores of hidden keys to minus infinity: scores[STEP, span] of the queries from `row`, `stride` apart.
  void hide(int64_t sequence, int64_t head, int64_t row, const Span &span, int64_t stride, float *scores) const;

  // The dropout bits of STEP keys from `key`, 1 where kept.
  uint32_t kept(int64_t sequence, int64_t head, int64_t row, int64_t key) const;

 private:
  enum Kind : uint8_t { VISIBLE, MIXED, HIDDEN };
  struct Table {  // of a sequence's mask, per step of queries and step of keys
    int64_t heads = 0, rows = 0, columns = 0;
    std::vector<uint8_t> kinds;
  };

  uint8_t kind(const Sequence &sequence, int64_t head, int64_t row, int64_t column) const;
  const uint8_t *kinds(int64_t sequence, int64_t head, int64_t row) const;
  void look_at_masks();

  const Call &call_;
  std::vector<Table> tables_;
  int64_t drop_bytes_;
};

}  // namespace flash
