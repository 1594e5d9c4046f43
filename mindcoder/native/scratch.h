// Working memory that operators borrow: a new mapping for every call would cost a page fault for each 4 KiB.
#pragma once
#include <cstddef>

class Scratch {
 public:
  explicit Scratch(size_t bytes);
  ~Scratch();
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;

  template <class Number>
  Number *as() const {
    return static_cast<Number *>(memory_);
  }

 private:
  void *memory_ = nullptr;  // aligned to 64 bytes
  size_t size_ = 0;
};
