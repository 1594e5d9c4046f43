#include "segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace softcann {

uint64_t start_time(pid_t pid) {
  std::ifstream stream("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stream, line)) return 0;
  // The second field is the command in parentheses and may contain anything; the state follows it, the start is field 22.
  std::istringstream rest(line.substr(line.rfind(')') + 1));
  std::string field;
  for (int number = 3; number <= 22 && rest >> field; ++number) {
    if (number == 3 && (field == "Z" || field == "X")) return 0;
    if (number == 22) return std::stoull(field);
  }
  return 0;
}

int memory_file(size_t bytes) {
  const int file = memfd_create("softcann-hccl", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0)
    throw HcclFailure{kHcclSystem, std::string("shared memory: ") + std::strerror(errno)};
  return file;
}

Place place_of(int file) { return {getpid(), file, start_time(getpid())}; }

size_t Segment::bytes(uint32_t ranks) { return sizeof(Header) + sizeof(Mailbox) * ranks * ranks + kChunk * ranks; }

Place Segment::create(uint32_t ranks) { return place_of(memory_file(bytes(ranks ? ranks : kMostRanks))); }

Segment::Segment(const Place& place, uint32_t ranks) : ranks_(ranks) {
  if (ranks == 0 || ranks > kMostRanks)
    throw HcclFailure{kHcclParameter, "found " + std::to_string(ranks) + " ranks; softcann has 1 to " + std::to_string(kMostRanks)};
  const int file = open(place.path().c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0)
    throw HcclFailure{kHcclSystem, "the shared memory of process " + std::to_string(place.pid) + " cannot be opened: " +
                                       std::strerror(errno) + " (that rank is gone, or another user's, or on another host)"};
  memory_ = mmap(nullptr, bytes(ranks), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory_ == MAP_FAILED) throw HcclFailure{kHcclSystem, std::string("shared memory: ") + std::strerror(errno)};
}

Segment::~Segment() { munmap(memory_, bytes(ranks_)); }

char* Segment::buffer(uint32_t rank) const {
  return static_cast<char*>(memory_) + sizeof(Header) + sizeof(Mailbox) * ranks_ * ranks_ + kChunk * rank;
}

Mailbox& Segment::mailbox(uint32_t from, uint32_t to) const {
  auto* boxes = reinterpret_cast<Mailbox*>(static_cast<char*>(memory_) + sizeof(Header));
  return boxes[from * ranks_ + to];
}

}  // namespace softcann
