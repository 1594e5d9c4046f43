#include "flash_forward.h"

#include <atomic>

#include "flash_dispatch.h"
#include "thread_pool.h"

namespace flash {
namespace {

constexpr int64_t AT_ONCE = 16 << 20;  // bytes of packed keys and values, or one key head's, if that is more

// A key head of a sequence.
struct Unit {
  int64_t sequence, kv_head, start;  // where its packed keys begin
};

template <class Products>
class Heads {
 public:
  using Number = typename Products::Number;

  Heads(const Call &call, const Inputs &inputs, const Results &results)
      : call_(call), inputs_(inputs), results_(results), visible_(call) {}

  void run() {
    std::vector<Unit> units;
    int64_t size = 0;
    for (size_t sequence = 0; sequence < call_.sequences.size(); sequence++) {
      for (int64_t kv_head = 0; kv_head < call_.kv_heads; kv_head++) {
        const int64_t own = size_of(call_.sequences[sequence]);
        if (!units.empty() && (size + own) * static_cast<int64_t>(sizeof(Number)) > AT_ONCE) {
          attend(units, size);
          units.clear(), size = 0;
        }
        units.push_back({static_cast<int64_t>(sequence), kv_head, size});
        size += own;
      }
    }
    if (!units.empty()) attend(units, size);
  }

 private:
  int64_t size_of(const Sequence &own) const {
    return Products::size(padded(own.keys), padded(call_.width) + padded(call_.value_width));
  }

  PackedKeys<Products> packed(const Unit &unit, Number *memory) const {
    const int64_t depth = padded(call_.sequences[unit.sequence].keys);
    Number *keys = memory + unit.start;
    return {keys, keys + Products::size(depth, padded(call_.width)), depth};
  }

  struct Piece {
    int64_t unit, head, first;  // a block of keys to pack, or a block of queries of a head
  };

  void attend(const std::vector<Unit> &units, int64_t size) {
    const Buffer<Number> memory(size);
    std::vector<Piece> blocks, pieces;
    for (size_t index = 0; index < units.size(); index++) {
      const Sequence &own = call_.sequences[units[index].sequence];
      const int64_t unit = static_cast<int64_t>(index);
      for (int64_t first = 0; first < own.keys; first += KEYS) blocks.push_back({unit, 0, first});
      // The last queries see most keys in causal attention: first, so that no thread begins them when others are done.
      for (int64_t first = (own.queries - 1) / QUERIES * QUERIES; first >= 0 && own.queries > 0; first -= QUERIES)
        for (int64_t head = 0; head < call_.group(); head++) pieces.push_back({unit, units[index].kv_head * call_.group() + head, first});
    }
    run_on_all_threads([&](int member) {
      Packer<Products> packer(std::max(call_.width, call_.value_width));
      const Range own = part_of(static_cast<int64_t>(blocks.size()), member, thread_count(), 1);
      for (int64_t at = own.begin; at < own.end; at++) pack(units[blocks[at].unit], blocks[at].first, packer, memory.get());
    });
    std::atomic<size_t> next{0};
    run_on_all_threads([&](int) {
      Forward<Products> forward(call_, visible_, inputs_, results_);
      Products::begin();
      for (size_t at = next++; at < pieces.size(); at = next++) {
        const Unit &unit = units[pieces[at].unit];
        forward.run(unit.sequence, pieces[at].head, pieces[at].first, packed(unit, memory.get()));
      }
      Products::end();
    });
  }

  void pack(const Unit &unit, int64_t first, Packer<Products> &packer, Number *memory) const {
    const Sequence &own = call_.sequences[unit.sequence];
    const PackedKeys<Products> to = packed(unit, memory);
    const Element element = call_.element;
    const Matrix keys{element, at(inputs_.key, element, own.key + unit.kv_head * call_.key.head), call_.key.token, own.keys,
                      call_.width, own.table, call_.block_size, call_.block};
    const Matrix values{element, at(inputs_.value, element, own.value + unit.kv_head * call_.value.head), call_.value.token,
                        own.keys, call_.value_width, own.table, call_.block_size, call_.block};
    for (int64_t row = first; row < std::min(first + KEYS, own.keys); row += STEP) {
      packer.read(keys, row);
      packer.b_of_rows(to.keys);
      packer.read(values, row);
      packer.b_of_columns(to.values, to.depth);
    }
  }

  const Call &call_;
  const Inputs &inputs_;
  const Results &results_;
  const Visible visible_;
};

}  // namespace

void attend(const Call &call, const Inputs &inputs, const Results &results) {
  with_products(call.element, [&](auto products) { Heads<decltype(products)>(call, inputs, results).run(); });
}

}  // namespace flash
