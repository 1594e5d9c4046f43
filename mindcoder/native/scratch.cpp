#include "scratch.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace {

constexpr size_t LARGE = size_t{2} << 20;  // a huge page

struct Piece {
  void *memory;
  size_t size;
};

// Pieces that nobody has borrowed. As many exist as were ever borrowed at once, each as large as its largest use.
struct Pool {
  std::mutex changing;
  std::vector<Piece> free;
};

// Never destroyed: an operator may still run when the process exits.
Pool &pool() {
  static Pool *one = new Pool;
  return *one;
}

Piece fresh(size_t bytes) {
  const size_t grain = bytes >= LARGE ? LARGE : 4096, size = (bytes + grain - 1) / grain * grain;
  void *memory = std::aligned_alloc(grain, size);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (size >= LARGE) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return {memory, size};
}

}  // namespace

Scratch::Scratch(size_t bytes) {
  if (bytes == 0) return;
  Pool &all = pool();
  Piece outgrown{nullptr, 0};
  {
    std::lock_guard<std::mutex> alone(all.changing);
    size_t best = all.free.size(), largest = best;
    for (size_t at = 0; at < all.free.size(); at++) {
      const size_t size = all.free[at].size;
      if (size >= bytes && (best == all.free.size() || size < all.free[best].size)) best = at;
      if (largest == all.free.size() || size > all.free[largest].size) largest = at;
    }
    if (best == all.free.size()) best = largest;  // none suffices: the largest is replaced
    if (best < all.free.size()) {
      const Piece found = all.free[best];
      all.free.erase(all.free.begin() + static_cast<std::ptrdiff_t>(best));
      if (found.size >= bytes) memory_ = found.memory, size_ = found.size;
      else outgrown = found;
    }
  }
  std::free(outgrown.memory);
  if (memory_ == nullptr) {
    const Piece piece = fresh(bytes);
    memory_ = piece.memory, size_ = piece.size;
  }
}

Scratch::~Scratch() {
  if (memory_ == nullptr) return;
  Pool &all = pool();
  std::lock_guard<std::mutex> alone(all.changing);
  all.free.push_back({memory_, size_});
}
