// How long the operators of layers take, by their shapes, while somebody asks (benchmarks/breakdown.py).
#pragma once
#include <chrono>
#include <cstdint>

class Timing {
 public:
  // Around the work of one call; the parameters are those that MindSpore passed.
  Timing(const char *name, int count, const int *ndims, int64_t **shapes, const char **dtypes);
  ~Timing();
  Timing(const Timing &) = delete;

 private:
  const char *name_;
  int count_;
  const int *ndims_;
  int64_t **shapes_;
  const char **dtypes_;
  std::chrono::steady_clock::time_point began_;
};
