#include "timing.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace {

struct Total {
  int64_t calls = 0;
  double seconds = 0;
};

std::atomic<bool> wanted{false};
std::mutex mutex;

// By a line "name<tab>dtype[sizes] dtype[sizes] ...". Never destroyed: an operator may end after the program's statics.
std::map<std::string, Total> &totals() {
  static auto *all = new std::map<std::string, Total>;
  return *all;
}

}  // namespace

Timing::Timing(const char *name, int count, const int *ndims, int64_t **shapes, const char **dtypes)
    : name_(name), count_(count), ndims_(ndims), shapes_(shapes), dtypes_(dtypes) {
  if (wanted.load(std::memory_order_relaxed)) began_ = std::chrono::steady_clock::now();
}

Timing::~Timing() {
  if (!wanted.load(std::memory_order_relaxed) || began_.time_since_epoch().count() == 0) return;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
  std::string key = std::string(name_) + "\t";
  for (int index = 0; index < count_; index++) {
    key += std::string(index > 0 ? " " : "") + dtypes_[index] + "[";
    for (int axis = 0; axis < ndims_[index]; axis++)
      key += (axis > 0 ? "," : "") + std::to_string(shapes_[index][axis]);
    key += "]";
  }
  const std::lock_guard<std::mutex> lock(mutex);
  Total &total = totals()[key];
  total.calls++;
  total.seconds += took.count();
}

// Forgets what was measured and measures, or no longer.
extern "C" void MindCoderTimeOperators(int measures) {
  const std::lock_guard<std::mutex> lock(mutex);
  totals().clear();
  wanted = measures != 0;
}

// Writes lines "name<tab>dtype[sizes] ...<tab>calls<tab>seconds" of at most `room` bytes; gives the bytes that all need.
extern "C" int64_t MindCoderOperatorTimes(char *to, int64_t room) {
  const std::lock_guard<std::mutex> lock(mutex);
  std::string text;
  for (const auto &[key, total] : totals())
    text += key + "\t" + std::to_string(total.calls) + "\t" + std::to_string(total.seconds) + "\n";
  const int64_t size = static_cast<int64_t>(text.size());
  if (room > 0) std::memcpy(to, text.data(), static_cast<size_t>(std::min(size, room)));
  return size;
}
