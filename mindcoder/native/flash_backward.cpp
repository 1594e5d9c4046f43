#include "flash_backward.h"

#include <atomic>

#include "flash_dispatch.h"
#include "thread_pool.h"

namespace flash {
namespace {

// The query heads of a key head are cut into parts, each with its own sums of dk and dv, if there are few key heads: a
// number that depends on the call alone, so that the result does not depend on the number of threads.
constexpr int64_t ENOUGH = 16;
constexpr int64_t AT_ONCE = 16 << 20;  // bytes of such sums, or what keeps all threads busy, if that is more

struct Unit {
  int64_t sequence, kv_head, start;  // where its sums begin
};

template <class Products>
class Heads {
 public:
  Heads(const Call &call, const Inputs &inputs, const Saved &saved, const Gradients &gradients)
      : call_(call), inputs_(inputs), saved_(saved), gradients_(gradients), visible_(call) {
    const int64_t all = static_cast<int64_t>(call.sequences.size()) * call.kv_heads;
    parts_ = std::min(call.group(), (ENOUGH + all - 1) / all);
  }

  void run() {
    std::vector<Unit> units;
    int64_t size = 0;
    for (size_t sequence = 0; sequence < call_.sequences.size(); sequence++) {
      for (int64_t kv_head = 0; kv_head < call_.kv_heads; kv_head++) {
        const int64_t own = size_of(sequence) * parts_;
        const int64_t pieces = static_cast<int64_t>(units.size()) * parts_;
        if (pieces >= 2 * thread_count() && (size + own) * 4 > AT_ONCE) {
          differentiate(units, size);
          units.clear(), size = 0;
        }
        units.push_back({static_cast<int64_t>(sequence), kv_head, size});
        size += own;
      }
    }
    if (!units.empty()) differentiate(units, size);
  }

 private:
  int64_t size_of(int64_t sequence) const {
    return KeyGradients::size(call_.sequences[sequence].keys, call_.width, call_.value_width);
  }

  KeyGradients sums_of(const Unit &unit, int64_t part, float *memory) const {
    return {memory + unit.start + part * size_of(unit.sequence), padded(call_.width), padded(call_.value_width)};
  }

  struct Block {
    int64_t unit, first;
  };

  void differentiate(const std::vector<Unit> &units, int64_t size) const {
    const Buffer<float> memory(size);
    std::vector<Block> blocks;
    int64_t queries = 0, keys = 0;
    for (size_t index = 0; index < units.size(); index++) {
      const Sequence &own = call_.sequences[units[index].sequence];
      queries = std::max(queries, own.queries), keys = std::max(keys, own.keys);
      for (int64_t first = 0; first < own.keys; first += BLOCK) blocks.push_back({static_cast<int64_t>(index), first});
    }
    const int64_t count = static_cast<int64_t>(units.size()) * parts_;
    std::atomic<int64_t> next{0};
    run_on_all_threads([&](int member) {
      if (member >= count) return;
      Backward<Products> backward(call_, visible_, inputs_, saved_, gradients_, queries, keys);
      Products::begin();
      for (int64_t at = next++; at < count; at = next++) {
        const Unit &unit = units[at / parts_];
        const int64_t part = at % parts_, group = call_.group(), head = unit.kv_head * group;
        const KeyGradients sums = sums_of(unit, part, memory.get());
        std::fill(sums.memory, sums.memory + size_of(unit.sequence), 0.0f);
        backward.run(unit.sequence, head + group * part / parts_, head + group * (part + 1) / parts_, sums);
      }
      Products::end();
    });
    std::atomic<size_t> next_block{0};
    run_on_all_threads([&](int) {
      const Buffer<float> rows(BLOCK * std::max(padded(call_.width), padded(call_.value_width)));
      for (size_t at = next_block++; at < blocks.size(); at = next_block++)
        write(units[blocks[at].unit], blocks[at].first, memory.get(), rows.get());
    });
  }

  // dk and dv of a block of keys: the sum over the parts, in their order.
  void write(const Unit &unit, int64_t first, float *memory, float *rows) const {
    const KeyGradients sums = sums_of(unit, 0, memory);
    const int64_t size = (sums.width + sums.value_width) * BLOCK;
    for (int64_t part = 1; part < parts_; part++) {
      float *to = sums.keys(first);
      const float *from = sums_of(unit, part, memory).keys(first);
      for (int64_t index = 0; index < size; index++) to[index] += from[index];
    }
    const Sequence &own = call_.sequences[unit.sequence];
    write(sums.keys(first), sums.width, call_.scale, call_.width, first, own.keys, own.key + unit.kv_head * call_.key.head,
          call_.key.token, gradients_.key, rows);
    write(sums.values(first), sums.value_width, 1.0f, call_.value_width, first, own.keys,
          own.value + unit.kv_head * call_.value.head, call_.value.token, gradients_.value, rows);
  }

  void write(const float *turned, int64_t padding, float factor, int64_t width, int64_t first, int64_t keys, int64_t start,
             int64_t stride, void *gradient, float *rows) const {
    transpose(turned, padding, BLOCK, BLOCK, padding, rows);
    for (int64_t row = 0; row < std::min(BLOCK, keys - first); row++)
      write_row(call_.element, rows + row * padding, factor, width, at(gradient, call_.element, start + (first + row) * stride));
  }

  const Call &call_;
  const Inputs &inputs_;
  const Saved &saved_;
  const Gradients &gradients_;
  const Visible visible_;
  int64_t parts_;
};

}  // namespace

void differentiate(const Call &call, const Inputs &inputs, const Saved &saved, const Gradients &gradients) {
  with_products(call.element, [&](auto products) { Heads<decltype(products)>(call, inputs, saved, gradients).run(); });
}

}  // namespace flash
