#include "communicator.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <set>

namespace softcann {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLook{50};  // how often a waiting rank looks whether the others live

std::mutex list_mutex;
std::set<Communicator*> communicators;  // of this process: each tells its group what the process is in

void futex_wait(std::atomic<uint32_t>& word, uint32_t value, std::chrono::milliseconds time) {
  const timespec wait{time.count() / 1000, time.count() % 1000 * 1000000};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &wait, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t>& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

void copy_text(char* to, size_t room, const std::string& text) {
  std::strncpy(to, text.c_str(), room - 1);
  to[room - 1] = 0;
}

}  // namespace

std::chrono::milliseconds hccl_deadline() {
  const char* text = std::getenv("SOFTCANN_HCCL_TIMEOUT");
  const double seconds = text ? std::atof(text) : 0;
  return std::chrono::milliseconds(static_cast<int64_t>((seconds > 0 ? seconds : 120) * 1000));
}

Communicator::Communicator(const Place& place, uint32_t ranks, uint32_t rank, std::string name)
    : ranks(ranks), rank(rank), name(std::move(name)), segment_(place, ranks) {
  if (rank >= ranks) throw HcclFailure{kHcclParameter, "found rank " + std::to_string(rank) + " of " + std::to_string(ranks) + " ranks"};
  Header& header = segment_.header();
  uint32_t before = 0;
  if (!header.ranks.compare_exchange_strong(before, ranks) && before != ranks)
    fail(kHcclParameter, "rank " + std::to_string(rank) + " found a group of " + std::to_string(before) + " ranks, expected " + std::to_string(ranks));
  Slot& slot = header.slots[rank];
  int32_t nobody = 0;
  if (!slot.pid.compare_exchange_strong(nobody, getpid()))
    fail(kHcclParameter, "processes " + std::to_string(nobody) + " and " + std::to_string(getpid()) + " both are rank " + std::to_string(rank));
  slot.started = start_time(getpid());
  {
    std::lock_guard<std::mutex> lock(list_mutex);
    communicators.insert(this);
  }
  Call call;
  call.kind = Kind::init;
  try {
    begin(call);
  } catch (...) {
    std::lock_guard<std::mutex> lock(list_mutex);
    communicators.erase(this);
    throw;
  }
}

Communicator::~Communicator() {
  // What was sent lies in memory files of this process, which may end right after: wait until they were read.
  const auto deadline = Clock::now() + hccl_deadline();
  for (close_sent(); !sent_.empty() && segment_.header().broken == 0 && Clock::now() < deadline; close_sent()) usleep(200);
  segment_.header().slots[rank].left = 1;
  for (const Sent& sent : sent_) close(sent.file);
  std::lock_guard<std::mutex> lock(list_mutex);
  communicators.erase(this);
}

std::string Communicator::rank_text(uint32_t of) const {
  const int32_t pid = segment_.header().slots[of].pid;
  return "rank " + std::to_string(of) + (pid ? " (process " + std::to_string(pid) + ")" : "");
}

void Communicator::fail(HcclResult code, const std::string& message) {
  Header& header = segment_.header();
  uint32_t whole = 0;
  const std::string text = "group " + name + ": " + message;
  if (header.broken.compare_exchange_strong(whole, 1)) {
    copy_text(header.reason, sizeof header.reason, text);
    header.broken = 2;
    ++header.generation;
    futex_wake(header.generation);
  }
  throw HcclFailure{code, text};
}

void Communicator::check_whole() const {
  const Header& header = segment_.header();
  if (header.broken == 0) return;
  while (header.broken == 1) usleep(100);
  throw HcclFailure{kHcclRemote, header.reason};
}

void Communicator::note(const Call& call) {
  current_ = call;
  const std::string text = call.text() + " in group " + name;
  std::lock_guard<std::mutex> lock(list_mutex);
  for (Communicator* other : communicators) {
    char* doing = other->segment_.header().slots[other->rank].doing;
    copy_text(doing, sizeof Slot::doing, text);
  }
}

void Communicator::wait_until(const std::function<bool()>& done, const std::function<void()>& wait,
                              const std::function<bool(uint32_t)>& awaited, const Call& call) {
  const auto deadline = Clock::now() + hccl_deadline();
  auto look = Clock::now() + kLook;
  while (!done()) {
    check_whole();
    wait();
    if (Clock::now() < look || done()) continue;
    look = Clock::now() + kLook;
    for (uint32_t other = 0; other < ranks; ++other) {
      const Slot& slot = segment_.header().slots[other];
      if (other == rank || slot.pid == 0 || slot.started == 0 || !awaited(other)) continue;
      const bool gone = !alive(slot.pid, slot.started);
      if (!gone && !slot.left) continue;
      if (done()) return;
      check_whole();
      fail(kHcclRemote, rank_text(other) + (gone ? " has died" : " has left the group") + " while " + rank_text(rank) + " is in " +
                            call.text() + "; it was last in " + slot.doing);
    }
    if (Clock::now() < deadline) continue;
    for (uint32_t other = 0; other < ranks; ++other) {
      if (other == rank || !awaited(other)) continue;
      const Slot& slot = segment_.header().slots[other];
      const std::string waited = std::to_string(hccl_deadline().count() / 1000.0).substr(0, 5);
      fail(kHcclTimeout, rank_text(other) + " did not come to " + call.text() + " within " + waited +
                             " s (SOFTCANN_HCCL_TIMEOUT), where " + rank_text(rank) + " waits; " +
                             (slot.pid ? std::string("it was last in ") + slot.doing : "it never joined"));
    }
  }
}

void Communicator::barrier() {
  Header& header = segment_.header();
  check_whole();
  const uint32_t generation = header.generation;
  const uint64_t own = ++header.slots[rank].barriers;
  if (header.arrived.fetch_add(1) + 1 == ranks) {
    header.arrived = 0;
    ++header.generation;
    futex_wake(header.generation);
    return;
  }
  wait_until([&] { return header.generation != generation && header.broken == 0; },
             [&] { futex_wait(header.generation, generation, kLook); },
             [&](uint32_t other) { return header.slots[other].barriers < own; }, current_);
}

void Communicator::begin(const Call& call, uint64_t largest) {
  check_whole();
  note(call);
  Slot& slot = segment_.header().slots[rank];
  slot.call = call;
  slot.largest = largest;
  barrier();
  for (uint32_t other = 0; other < ranks; ++other) {
    const Call& theirs = segment_.header().slots[other].call;
    if (!(theirs == segment_.header().slots[0].call))
      fail(kHcclParameter, rank_text(0) + " is in " + segment_.header().slots[0].call.text() + ", and " + rank_text(other) + " is in " + theirs.text());
  }
  barrier();  // nobody writes its next call while another still compares
}

void Communicator::close_sent() {
  for (size_t i = sent_.size(); i-- > 0;) {
    if (static_cast<int32_t>(sent_[i].box->taken - sent_[i].number) <= 0) continue;
    close(sent_[i].file);
    sent_.erase(sent_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void Communicator::send(const void* data, const Call& call) {
  check_whole();
  note(call);
  close_sent();
  Mailbox& box = segment_.mailbox(rank, call.root);
  const auto pause = [] { usleep(200); };
  const auto receiver = [&](uint32_t other) { return other == call.root; };
  wait_until([&] { return box.written - box.taken < kLetters; }, pause, receiver, call);
  const uint64_t bytes = call.count * size_of(call.dtype);
  const int file = memory_file(bytes);
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t written = pwrite(file, static_cast<const char*>(data) + done, bytes - done, static_cast<off_t>(done));
    if (written <= 0) throw HcclFailure{kHcclSystem, std::string("Send: ") + std::strerror(errno)};
    done += static_cast<uint64_t>(written);
  }
  const uint32_t number = box.written;
  box.letters[number % kLetters] = {place_of(file), call, bytes};
  sent_.push_back({&box, number, file});
  box.written = number + 1;
}

void Communicator::receive(void* data, const Call& call) {
  check_whole();
  note(call);
  Mailbox& box = segment_.mailbox(call.root, rank);
  wait_until([&] { return box.written != box.taken; }, [] { usleep(200); }, [&](uint32_t other) { return other == call.root; }, call);
  const Letter letter = box.letters[box.taken % kLetters];
  if (letter.call.dtype != call.dtype || letter.call.count != call.count)
    fail(kHcclParameter, rank_text(call.root) + " sent with " + letter.call.text() + ", and " + rank_text(rank) + " receives with " + call.text());
  const int file = open(letter.place.path().c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(kHcclRemote, rank_text(call.root) + " has died: what it sent to " + rank_text(rank) + " is gone");
  for (uint64_t done = 0; done < letter.bytes;) {
    const ssize_t got = pread(file, static_cast<char*>(data) + done, letter.bytes - done, static_cast<off_t>(done));
    if (got <= 0) throw HcclFailure{kHcclSystem, std::string("Recv: ") + std::strerror(errno)};
    done += static_cast<uint64_t>(got);
  }
  close(file);
  ++box.taken;
}

Place Communicator::sub_place(const std::vector<uint32_t>& members, uint64_t group) {
  Slot& maker = segment_.header().slots[members[0]];
  if (members[0] == rank) {
    const uint32_t number = maker.announced.fetch_add(1);
    if (number >= kAnnouncements) throw HcclFailure{kHcclNotSupported, "more than 64 groups made of one group's rank"};
    Announcement& announcement = maker.announcements[number];
    announcement.group = group;
    announcement.place = Segment::create(static_cast<uint32_t>(members.size()));
    announcement.ready = 1;
    return announcement.place;
  }
  Place place;
  const auto announced = [&] {
    for (uint32_t number = std::min(maker.announced.load(), kAnnouncements); number-- > 0;) {
      const Announcement& announcement = maker.announcements[number];
      if (!announcement.ready || announcement.group != group) continue;
      place = announcement.place;
      return true;
    }
    return false;
  };
  Call call;
  call.kind = Kind::init;
  wait_until(announced, [] { usleep(200); }, [&](uint32_t other) { return other == members[0]; }, call);
  return place;
}

}  // namespace softcann
