#include "thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr int SPINS = 20000;  // some 100 us: longer than the gap between two operators of a graph

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The CPU set of the process's main thread: MindSpore pins the threads that call operators to one CPU each.
cpu_set_t processors() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(getpid(), sizeof allowed, &allowed);
  return allowed;
}

int count_threads() {
  const char *asked = std::getenv("MINDCODER_THREADS");  // not OMP_NUM_THREADS: MindSpore sets that to 1
  if (asked != nullptr && std::atoi(asked) > 0) return std::atoi(asked);
  const cpu_set_t allowed = processors();
  return CPU_COUNT(&allowed) > 0 ? CPU_COUNT(&allowed) : 1;
}

// Waits until `value` differs from `old`: spins first, because the next operator comes soon, then sleeps.
uint32_t wait_for_change(const std::atomic<uint32_t> &value, uint32_t old) {
  for (int spin = 0; spin < SPINS; spin++) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

class ThreadPool {
 public:
  ThreadPool() : size_(count_threads()) {
    for (int member = 1; member < size_; member++) std::thread([this, member] { follow(member); }).detach();
  }

  int size() const { return size_; }

  void run_on_all_threads(const std::function<void(int)> &work) {
    if (size_ == 1) return work(0);
    std::lock_guard<std::mutex> one_operator(busy_);
    work_ = &work;
    missing_.store(size_ - 1, std::memory_order_relaxed);
    order_.fetch_add(1, std::memory_order_release);
    order_.notify_all();
    work(0);
    uint32_t missing = missing_.load(std::memory_order_acquire);
    while (missing != 0) missing = wait_for_change(missing_, missing);
  }

 private:
  void follow(int member) {
    const cpu_set_t allowed = processors();
    sched_setaffinity(0, sizeof allowed, &allowed);
    uint32_t order = 0;
    while (true) {
      order = wait_for_change(order_, order);
      (*work_)(member);
      if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) missing_.notify_one();
    }
  }

  const int size_;
  std::mutex busy_;
  const std::function<void(int)> *work_ = nullptr;
  std::atomic<uint32_t> order_{0}, missing_{0};
};

// Never destroyed: its threads may still be waiting when the process exits.
ThreadPool &thread_pool() {
  static ThreadPool *one = new ThreadPool;
  return *one;
}

}  // namespace

int thread_count() { return thread_pool().size(); }

void run_on_all_threads(const std::function<void(int)> &work) { thread_pool().run_on_all_threads(work); }
