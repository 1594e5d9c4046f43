// The thread pool that executes one operator at a time.
#pragma once
#include <cstdint>
#include <functional>

// Threads in the pool: MINDCODER_THREADS, else the CPUs available to this process.
int thread_count();

// Calls work(0) ... work(thread_count() - 1), each on its own thread, and returns when all are done.
void run_on_all_threads(const std::function<void(int)> &work);

struct Range {
  int64_t begin, end;
};

// Part `index` of `parts` equal parts of 0..size, with boundaries at multiples of `grain`.
inline Range part_of(int64_t size, int index, int parts, int64_t grain) {
  const int64_t grains = (size + grain - 1) / grain;
  const int64_t begin = grains * index / parts * grain, end = grains * (index + 1) / parts * grain;
  return {begin < size ? begin : size, end < size ? end : size};
}
