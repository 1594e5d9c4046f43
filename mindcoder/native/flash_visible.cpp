#include "flash_visible.h"

#include <algorithm>
#include <limits>

#include "flash_elements.h"
#include "thread_pool.h"

namespace flash {

Visible::Visible(const Call &call) : call_(call), tables_(call.sequences.size()) {
  int64_t bits = 0;
  for (const Sequence &own : call.sequences) bits = std::max(bits, own.drop_bit + call.heads * own.queries * own.keys);
  drop_bytes_ = (bits + 7) / 8;
  look_at_masks();
}

void Visible::look_at_masks() {
  struct Row {
    int64_t sequence, head, row;
  };
  std::vector<Row> rows;
  for (size_t index = 0; index < tables_.size(); index++) {
    const Sequence &own = call_.sequences[index];
    if (own.hidden == nullptr) continue;
    Table &table = tables_[index];
    table.heads = call_.hidden_head > 0 ? call_.heads : 1;
    table.rows = padded(own.queries) / STEP, table.columns = padded(own.keys) / STEP;
    table.kinds.resize(table.heads * table.rows * table.columns);
    for (int64_t head = 0; head < table.heads; head++)
      for (int64_t row = 0; row < table.rows; row++) rows.push_back({static_cast<int64_t>(index), head, row});
  }
  if (rows.empty()) return;
  run_on_all_threads([&](int member) {
    const Range own = part_of(static_cast<int64_t>(rows.size()), member, thread_count(), 1);
    for (int64_t at = own.begin; at < own.end; at++) {
      const Row &row = rows[at];
      Table &table = tables_[row.sequence];
      const Sequence &sequence = call_.sequences[row.sequence];
      const int64_t last = std::min(row.row * STEP + STEP, sequence.queries);
      const Span reach = bounds(row.sequence, row.row * STEP, last);  // the rest is never looked at
      uint8_t *kinds = table.kinds.data() + (row.head * table.rows + row.row) * table.columns;
      for (int64_t key = reach.begin; key < reach.end; key += STEP)
        kinds[key / STEP] = kind(sequence, row.head, row.row * STEP, key);
    }
  });
}

uint8_t Visible::kind(const Sequence &sequence, int64_t head, int64_t row, int64_t column) const {
  const int64_t rows = std::min(STEP, sequence.queries - row), columns = std::min(STEP, sequence.keys - column);
  const uint8_t *mask = sequence.hidden + head * call_.hidden_head + row * call_.hidden_row + column;
  bool any = false, every = true;
  for (int64_t own = 0; own < rows; own++, mask += call_.hidden_row) {
    int64_t hidden = 0;
    for (int64_t at = 0; at < columns; at++) hidden += mask[at] != 0;
    any |= hidden > 0, every &= hidden == columns;
  }
  return every ? HIDDEN : any ? MIXED : VISIBLE;
}

const uint8_t *Visible::kinds(int64_t sequence, int64_t head, int64_t row) const {
  const Table &table = tables_[sequence];
  if (table.kinds.empty()) return nullptr;
  return table.kinds.data() + ((table.heads > 1 ? head : 0) * table.rows + row / STEP) * table.columns;
}

Span Visible::bounds(int64_t sequence, int64_t first, int64_t last) const {
  const Sequence &own = call_.sequences[sequence];
  const int64_t begin = std::max<int64_t>(0, first + own.shift - call_.below) / STEP * STEP;
  const int64_t end = std::min(own.keys, last - 1 + own.shift + call_.above + 1);
  return {begin, end > 0 ? padded(end) : 0, true};
}

Span Visible::span(int64_t sequence, int64_t head, int64_t row, int64_t begin, int64_t end) const {
  const Sequence &own = call_.sequences[sequence];
  const int64_t last = std::min(row + STEP, own.queries);
  Span span = bounds(sequence, row, last);
  span.begin = std::max(span.begin, begin), span.end = std::min(span.end, end);
  const uint8_t *kinds = this->kinds(sequence, head, row);
  if (kinds != nullptr) {
    while (!span.empty() && kinds[span.begin / STEP] == HIDDEN) span.begin += STEP;
    while (!span.empty() && kinds[span.end / STEP - 1] == HIDDEN) span.end -= STEP;
  }
  const int64_t seen_by_all_from = last - 1 + own.shift - call_.below, seen_by_all_to = row + own.shift + call_.above + 1;
  span.mixed = span.end > own.keys || span.begin < seen_by_all_from || span.end > seen_by_all_to;
  for (int64_t key = span.begin; kinds != nullptr && key < span.end; key += STEP) span.mixed |= kinds[key / STEP] != VISIBLE;
  return span;
}

void Visible::hide(int64_t sequence, int64_t head, int64_t row, const Span &span, int64_t stride, float *scores) const {
  constexpr float NEVER = -std::numeric_limits<float>::infinity();
  const Sequence &own = call_.sequences[sequence];
  const int64_t rows = std::min(STEP, own.queries - row);
  const uint8_t *kinds = this->kinds(sequence, head, row);
  for (int64_t index = 0; index < rows; index++, scores += stride) {
    const int64_t query = row + index + own.shift;
    const int64_t begin = std::clamp(query - call_.below, span.begin, span.end);
    const int64_t end = std::clamp(std::min(own.keys, query + call_.above + 1), begin, span.end);
    std::fill(scores, scores + (begin - span.begin), NEVER);
    std::fill(scores + (end - span.begin), scores + (span.end - span.begin), NEVER);
    if (kinds == nullptr) continue;
    const uint8_t *mask = own.hidden + (row + index) * call_.hidden_row + (tables_[sequence].heads > 1 ? head : 0) * call_.hidden_head;
    for (int64_t key = span.begin; key < span.end; key += STEP) {
      if (kinds[key / STEP] == VISIBLE) continue;
      const int64_t count = std::min(STEP, own.keys - key);
      float *to = scores + (key - span.begin);
      for (int64_t at = 0; at < count; at++) to[at] = mask[key + at] != 0 ? NEVER : to[at];
    }
  }
}

uint32_t Visible::kept(int64_t sequence, int64_t head, int64_t row, int64_t key) const {
  const Sequence &own = call_.sequences[sequence];
  if (row >= own.queries) return 0;
  const int64_t bit = own.drop_bit + (head * own.queries + row) * own.keys + key;
  uint64_t word = 0;
  const int64_t bytes = std::clamp<int64_t>(drop_bytes_ - bit / 8, 0, 8);  // past the last key there may be none
  std::memcpy(&word, call_.drop + bit / 8, bytes);
  return static_cast<uint32_t>(word >> bit % 8);
}

}  // namespace flash
