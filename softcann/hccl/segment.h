// The memory that the ranks of one communicator share, on one host.
//
// It is a memory file (memfd) of the rank that makes it; others open it as /proc/PID/fd/N. So it has no name that a killed
// process could leave behind, and the kernel frees it with the last process that has it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "types.h"

namespace softcann {

constexpr uint32_t kMostRanks = 64;
constexpr size_t kChunk = 1 << 20;     // bytes of a rank's buffer: larger calls run in slices
constexpr uint32_t kLetters = 32;      // sends that may wait for one receiver
constexpr uint32_t kAnnouncements = 64;

// Where a memory file is: how one process tells another.
struct Place {
  pid_t pid = 0;
  int32_t file = -1;
  uint64_t started = 0;  // of the process, in clock ticks since boot: another process may get the same pid later
  std::string path() const { return "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(file); }
};

uint64_t start_time(pid_t pid);  // 0 when the process is gone or only its remains are there
inline bool alive(pid_t pid, uint64_t started) { return started != 0 && start_time(pid) == started; }

struct Letter {
  Place place;
  Call call;
  uint64_t bytes;
};

// Sends from one rank to another that were not received yet, in order.
struct Mailbox {
  std::atomic<uint32_t> written, taken;
  Letter letters[kLetters];
};

// A sub-communicator that its first rank opened; the others find it in that rank's slot.
struct Announcement {
  std::atomic<uint32_t> ready;
  uint64_t group;
  Place place;
};

struct Slot {
  std::atomic<int32_t> pid;
  std::atomic<uint64_t> started;
  std::atomic<uint32_t> left;
  std::atomic<uint64_t> barriers;  // how many this rank has come to
  Call call;            // the collective that this rank is in
  uint64_t largest;     // bytes: what decides how many slices an AlltoAllV takes
  char doing[192];      // what this rank's process was last in, in whatever communicator
  std::atomic<uint32_t> announced;
  Announcement announcements[kAnnouncements];
};

struct Header {
  std::atomic<uint32_t> ranks;       // 0 until the first rank wrote it
  std::atomic<uint32_t> arrived;     // at the barrier
  std::atomic<uint32_t> generation;  // of the barrier; a futex
  std::atomic<uint32_t> broken;      // 1 while the reason is being written, 2 when it is there
  char reason[768];
  Slot slots[kMostRanks];
};

class Segment {
 public:
  static Place create(uint32_t ranks);  // keeps the file open in this process
  Segment(const Place& place, uint32_t ranks);
  ~Segment();
  Segment(const Segment&) = delete;
  Header& header() const { return *static_cast<Header*>(memory_); }
  char* buffer(uint32_t rank) const;
  Mailbox& mailbox(uint32_t from, uint32_t to) const;

 private:
  static size_t bytes(uint32_t ranks);
  void* memory_;
  uint32_t ranks_;
};

int memory_file(size_t bytes);  // throws HcclFailure
Place place_of(int file);

}  // namespace softcann
