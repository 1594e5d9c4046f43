// One rank's part in a group: meeting the others, checking that all ask for the same, and noticing who does not come.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "segment.h"

namespace softcann {

class Communicator {
 public:
  // Returns when all ranks have joined.
  Communicator(const Place& place, uint32_t ranks, uint32_t rank, std::string name);
  ~Communicator();

  const uint32_t ranks, rank;
  const std::string name;

  // Begins a collective: all ranks are in it and ask for the same when this returns. `largest` bytes are made known.
  void begin(const Call& call, uint64_t largest = 0);
  void barrier();
  char* buffer(uint32_t of) const { return segment_.buffer(of); }
  uint64_t largest_of(uint32_t of) const { return segment_.header().slots[of].largest; }

  void send(const void* data, const Call& call);
  void receive(void* data, const Call& call);

  // The place of a sub-communicator whose ranks, in this one, are `members`; the first of them makes it.
  Place sub_place(const std::vector<uint32_t>& members, uint64_t group);

  // Marks the group as broken for all ranks and throws.
  [[noreturn]] void fail(HcclResult code, const std::string& message);
  void note(const Call& call);  // what this process is in, for messages of the others

 private:
  // Polls until done() while nobody died, the group is whole and the deadline is not over; wait() sleeps a little.
  void wait_until(const std::function<bool()>& done, const std::function<void()>& wait, const std::function<bool(uint32_t)>& awaited,
                  const Call& call);
  void check_whole() const;
  std::string rank_text(uint32_t of) const;
  void close_sent();

  Segment segment_;
  Call current_;
  struct Sent {
    Mailbox* box;
    uint32_t number;
    int file;
  };
  std::vector<Sent> sent_;
};

std::chrono::milliseconds hccl_deadline();  // SOFTCANN_HCCL_TIMEOUT, seconds

}  // namespace softcann
