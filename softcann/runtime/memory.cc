// Allocation and copies. A freed range is emptied and never given out again, so that what still points there is found.
#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <unordered_set>

#include "errors.h"
#include "log.h"
#include "streams.h"

namespace softcann {
namespace {

constexpr size_t kPage = 4096;
// A freed range of at least this size is also closed to the host. The kernel counts each change from open to closed
// (vm.max_map_count, 65530 by default), so small ranges stay open.
constexpr size_t kClosed = 1 << 20;

size_t device_bytes() {
  const char* gib = std::getenv("SOFTCANN_MEMORY_GIB");
  const double size = gib ? std::atof(gib) : 0;
  return static_cast<size_t>((size > 0 ? size : 64) * (1ull << 30));
}

size_t whole_pages(size_t size) { return std::max<size_t>((size + kPage - 1) / kPage * kPage, kPage); }

std::string hex(const void* address) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(address)));
  return text;
}

class DeviceMemory {
 public:
  // At exit, what was in use and is not given back.
  void report() {
    std::lock_guard<std::mutex> lock(mutex_);
    log_event("memory", "\"peak_bytes\": " + std::to_string(peak_) + ", \"limit_bytes\": " + std::to_string(limit_) +
                            ", \"in_use_bytes\": " + std::to_string(used_) + ", \"allocations\": " + std::to_string(live_.size()));
  }

  int allocate(void** address, size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const int code = take(size)) return code;
    void* memory = mmap(nullptr, whole_pages(size), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      used_ -= size;
      return error(kOutOfMemory, "aclrtMalloc: the host has no address space for " + std::to_string(size) + " bytes");
    }
    live_[reinterpret_cast<uintptr_t>(memory)] = {size, false};
    *address = memory;
    return 0;
  }

  int free(void* address, const char* function) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(reinterpret_cast<uintptr_t>(address));
    if (found == live_.end())
      return error(kInvalidParameter, std::string(function) + ": " + hex(address) + " is not the start of a live allocation");
    if (found->second.mapped)
      return error(kInvalidParameter, std::string(function) + ": " + hex(address) + " was mapped with aclrtMapMem, expected what aclrtMalloc gave");
    used_ -= found->second.size;
    bury(found->first, found->second.size, found->second.mapped);
    live_.erase(found);
    return 0;
  }

  // Physical memory is a file in memory, so that its content goes with it when it is mapped elsewhere.
  int allocate_physical(void** handle, size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const int code = take(size)) return code;
    const int file = memfd_create("softcann", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(whole_pages(size))) != 0) {
      if (file >= 0) close(file);
      used_ -= size;
      return error(kOutOfMemory, "aclrtMallocPhysical: the host has no memory file for " + std::to_string(size) + " bytes");
    }
    auto* physical = new Physical{file, size};
    physical_.insert(physical);
    *handle = physical;
    return 0;
  }

  int free_physical(void* handle) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto* physical = static_cast<Physical*>(handle);
    if (!physical) return error(kInvalidParameter, "aclrtFreePhysical: the handle is null");
    if (!physical_.erase(physical)) return error(kInvalidParameter, "aclrtFreePhysical: freed before, or never allocated");
    used_ -= physical->size;
    close(physical->file);
    delete physical;
    return 0;
  }

  int reserve(void** address, size_t size) {
    void* memory = mmap(nullptr, whole_pages(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return error(kOutOfMemory, "aclrtReserveMemAddress: no address space");
    std::lock_guard<std::mutex> lock(mutex_);
    reserved_[reinterpret_cast<uintptr_t>(memory)] = whole_pages(size);
    *address = memory;
    return 0;
  }

  int unreserve(void* address) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = reserved_.find(reinterpret_cast<uintptr_t>(address));
    if (found == reserved_.end()) return error(kInvalidParameter, "aclrtReleaseMemAddress: " + hex(address) + " was not reserved");
    if (live_within(found->first, found->second))
      return error(kInvalidParameter, "aclrtReleaseMemAddress: memory is mapped in the range of " + hex(address) + "; call aclrtUnmapMem first");
    reserved_.erase(found);
    return 0;
  }

  int map(void* address, size_t size, size_t offset, void* handle) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto start = reinterpret_cast<uintptr_t>(address);
    auto within = reserved_.upper_bound(start);
    const auto* physical = static_cast<const Physical*>(handle);
    if (within == reserved_.begin() || size > UINTPTR_MAX - start ||
        start + size > std::prev(within)->first + std::prev(within)->second)
      return error(kInvalidParameter, "aclrtMapMem: " + hex(address) + " is not in a reserved range");
    if (!physical || !physical_.count(physical)) return error(kInvalidParameter, "aclrtMapMem: the physical memory was freed, or never allocated");
    if (live_within(start, size)) return error(kInvalidParameter, "aclrtMapMem: memory is mapped at " + hex(address) + "; call aclrtUnmapMem first");
    if (offset > whole_pages(physical->size) || size > whole_pages(physical->size) - offset)
      return error(kInvalidParameter, "aclrtMapMem: the physical memory is smaller than the range");
    if (mmap(address, whole_pages(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, physical->file,
             static_cast<off_t>(offset)) == MAP_FAILED)
      return error(kOutOfMemory, "aclrtMapMem: the host refused");
    live_[start] = {size, true};
    return 0;
  }

  int unmap(void* address) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(reinterpret_cast<uintptr_t>(address));
    if (found == live_.end()) return error(kInvalidParameter, "aclrtUnmapMem: nothing is mapped at " + hex(address));
    if (!found->second.mapped)
      return error(kInvalidParameter, "aclrtUnmapMem: " + hex(address) + " was allocated with aclrtMalloc, expected what aclrtMapMem mapped");
    bury(found->first, found->second.size, found->second.mapped);
    live_.erase(found);
    return 0;
  }

  std::string wrong_with(const void* address, size_t size) {
    if (!address) return "a null address";
    std::lock_guard<std::mutex> lock(mutex_);
    const auto start = reinterpret_cast<uintptr_t>(address);
    if (size > UINTPTR_MAX - start) return std::to_string(size) + " bytes at " + hex(address) + ", beyond the end of all memory";
    // Ranges mapped side by side are one range to whoever uses them.
    uintptr_t at = start;
    while (true) {
      auto next = live_.upper_bound(at);
      if (next == live_.begin()) break;
      --next;
      const uintptr_t end = next->first + next->second.size;
      if (at >= end && !(size == 0 && at == end)) break;
      if (start + size <= end) return "";
      at = end;
    }
    if (at != start)
      return std::to_string(size) + " bytes at " + hex(address) + ", " + std::to_string(start + size - at) +
             " beyond the end of the allocation";
    const auto buried = freed_.upper_bound(start);
    if (buried != freed_.begin() && start < std::prev(buried)->first + std::prev(buried)->second)
      return "the address " + hex(address) + " of memory that was freed";
    return "the address " + hex(address) + ", which is not device memory";
  }

  // Whether an address is, or was, within device memory.
  bool has(const void* address) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto start = reinterpret_cast<uintptr_t>(address);
    const auto next = freed_.upper_bound(start);
    return live_within(start, 1) || (next != freed_.begin() && start < std::prev(next)->first + std::prev(next)->second);
  }

  void information(size_t* free, size_t* total) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free) *free = limit_ - used_;
    if (total) *total = limit_;
  }

 private:
  struct Physical {
    int file;
    size_t size;
  };

  struct Range {
    size_t size;
    bool mapped;  // by aclrtMapMem
  };

  bool live_within(uintptr_t start, size_t size) const {
    const auto after = live_.lower_bound(start + size);
    return after != live_.begin() && std::prev(after)->first + std::prev(after)->second.size > start;
  }

  int take(size_t size) {
    if (size == 0) return error(kInvalidParameter, "device memory: asked for 0 bytes");
    if (size > limit_ - used_)
      return error(kOutOfMemory, "device memory: asked for " + std::to_string(size) + " bytes, " + std::to_string(used_) +
                                     " of " + std::to_string(limit_) + " are in use (SOFTCANN_MEMORY_GIB)");
    used_ += size;
    peak_ = std::max(peak_, used_);
    return 0;
  }

  // Gives the pages back. Mapped memory is replaced in any case: its file may be mapped elsewhere.
  void bury(uintptr_t start, size_t size, bool mapped) {
    void* address = reinterpret_cast<void*>(start);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    const bool closed = mapped || size >= kClosed;
    if (!closed || mmap(address, whole_pages(size), PROT_NONE, flags, -1, 0) == MAP_FAILED)
      madvise(address, whole_pages(size), MADV_DONTNEED);
    freed_[start] = size;
  }

  std::mutex mutex_;
  std::map<uintptr_t, Range> live_;
  std::map<uintptr_t, size_t> freed_, reserved_;
  std::unordered_set<const Physical*> physical_;
  size_t limit_ = device_bytes(), used_ = 0, peak_ = 0;
};

DeviceMemory& memory() {
  struct Reporter {
    DeviceMemory& device = *new DeviceMemory;  // never destroyed: MindSpore frees at exit, in any order
    ~Reporter() { device.report(); }
  };
  static Reporter reporter;
  return reporter.device;
}

// aclrtMemcpyKind of the ACL reference.
enum : int { kHostToHost, kHostToDevice, kDeviceToHost, kDeviceToDevice, kDefault, kHostToBufferToDevice, kInnerDevice, kInterDevice };

// What is wrong with one side of a copy; `device` is what the copy's kind says of it.
std::string wrong_side(const void* address, size_t size, bool device) {
  if (device) return wrong_with(address, size);
  return memory().has(address) ? "the device address " + hex(address) + " where the kind of copy says host" : "";
}

int copy(const char* function, void* target, size_t room, const void* source, size_t size, int kind) {
  if (size == 0) return 0;
  std::string wrong;
  if (kind < kHostToHost || kind > kInterDevice) wrong = "kind " + std::to_string(kind) + ", documented is 0 to 7";
  if (wrong.empty() && size > room) wrong = std::to_string(size) + " bytes into room for " + std::to_string(room);
  if (wrong.empty() && (!target || !source)) wrong = target ? "a null source" : "a null destination";
  const auto among = [kind](std::initializer_list<int> kinds) { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); };
  const bool inferred = kind == kDefault, between = among({kDeviceToDevice, kInnerDevice, kInterDevice});
  if (wrong.empty()) {
    wrong = wrong_side(target, size, inferred ? memory().has(target) : between || among({kHostToDevice, kHostToBufferToDevice}));
    if (!wrong.empty()) wrong += " as destination";
  }
  if (wrong.empty()) {
    wrong = wrong_side(source, size, inferred ? memory().has(source) : between || kind == kDeviceToHost);
    if (!wrong.empty()) wrong += " as source";
  }
  const auto to = reinterpret_cast<uintptr_t>(target), from = reinterpret_cast<uintptr_t>(source);
  if (wrong.empty() && (size > UINTPTR_MAX - to || size > UINTPTR_MAX - from)) wrong = std::to_string(size) + " bytes, beyond the end of all memory";
  if (!wrong.empty()) return error(kInvalidParameter, std::string(function) + ": found " + wrong);
  std::memmove(target, source, size);
  if (kind == kDeviceToHost) log_event("to_host", "\"bytes\": " + std::to_string(size));  // the host waits for it
  return 0;
}

// Host memory that aclrtMallocHost gave, so that a second free is an error and not a crash.
class HostMemory {
 public:
  int allocate(void** address, size_t size) {
    *address = std::aligned_alloc(64, (std::max<size_t>(size, 1) + 63) / 64 * 64);
    if (!*address) return error(kOutOfMemory, "aclrtMallocHost: the host has no " + std::to_string(size) + " bytes");
    std::lock_guard<std::mutex> lock(mutex_);
    live_.insert(*address);
    return 0;
  }
  int free(void* address) {
    if (!address) return 0;
    std::lock_guard<std::mutex> lock(mutex_);
    if (!live_.erase(address))
      return error(kInvalidParameter, "aclrtFreeHost: " + hex(address) + " was freed before, or is not of aclrtMallocHost");
    std::free(address);
    return 0;
  }

 private:
  std::mutex mutex_;
  std::unordered_set<const void*> live_;
};

HostMemory& host_memory() {
  static auto* host = new HostMemory;  // never destroyed either
  return *host;
}

int set(const char* function, void* target, size_t room, int value, size_t size) {
  if (size == 0) return 0;
  std::string wrong = wrong_with(target, size);
  if (size > room) wrong = std::to_string(size) + " bytes into room for " + std::to_string(room);
  if (!wrong.empty()) return error(kInvalidParameter, std::string(function) + ": found " + wrong);
  std::memset(target, value, size);
  return 0;
}

}  // namespace

std::string wrong_with(const void* address, size_t size) { return memory().wrong_with(address, size); }

}  // namespace softcann

extern "C" {

int aclrtMalloc(void** address, size_t size, int) { return softcann::memory().allocate(address, size); }
int aclrtMallocAlign32(void** address, size_t size, int) { return softcann::memory().allocate(address, size); }
int aclrtFree(void* address) { return softcann::memory().free(address, "aclrtFree"); }

int aclrtMallocHost(void** address, size_t size) { return softcann::host_memory().allocate(address, size); }
int aclrtFreeHost(void* address) { return softcann::host_memory().free(address); }

int aclrtReserveMemAddress(void** address, size_t size, size_t, void*, uint64_t) {
  return softcann::memory().reserve(address, size);
}
int aclrtReleaseMemAddress(void* address) { return softcann::memory().unreserve(address); }
int aclrtMallocPhysical(void** handle, size_t size, const void*, uint64_t) {
  return softcann::memory().allocate_physical(handle, size);
}
int aclrtFreePhysical(void* handle) { return softcann::memory().free_physical(handle); }
int aclrtMapMem(void* address, size_t size, size_t offset, void* handle, uint64_t) {
  return softcann::memory().map(address, size, offset, handle);
}
int aclrtUnmapMem(void* address) { return softcann::memory().unmap(address); }

int aclrtGetMemInfo(int, size_t* free, size_t* total) {
  softcann::memory().information(free, total);
  return 0;
}

int aclrtMemcpy(void* target, size_t room, const void* source, size_t size, int kind) {
  return softcann::copy("aclrtMemcpy", target, room, source, size, kind);
}
int aclrtMemcpyAsync(void* target, size_t room, const void* source, size_t size, int kind, void* stream) {
  if (const int code = softcann::check_stream(stream, "aclrtMemcpyAsync")) return code;
  return softcann::copy("aclrtMemcpyAsync", target, room, source, size, kind);
}
int aclrtMemset(void* target, size_t room, int value, size_t size) {
  return softcann::set("aclrtMemset", target, room, value, size);
}
int aclrtMemsetAsync(void* target, size_t room, int value, size_t size, void* stream) {
  if (const int code = softcann::check_stream(stream, "aclrtMemsetAsync")) return code;
  return softcann::set("aclrtMemsetAsync", target, room, value, size);
}

}
