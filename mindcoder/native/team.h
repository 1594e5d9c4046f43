// The threads that share one operator's work.
#pragma once
#include <cstdint>
#include <functional>

// Threads of the team: MINDCODER_THREADS, else the processors this process may use.
int team_size();

// Calls work(0) ... work(team_size() - 1), each on its own thread, and returns when all are done.
void share(const std::function<void(int)> &work);

struct Range {
  int64_t begin, end;
};

// Part `index` of `parts` even parts of 0..size, cut at multiples of `grain`.
inline Range part_of(int64_t size, int index, int parts, int64_t grain) {
  const int64_t grains = (size + grain - 1) / grain;
  const int64_t begin = grains * index / parts * grain, end = grains * (index + 1) / parts * grain;
  return {begin < size ? begin : size, end < size ? end : size};
}
