// Allocation and copies. A freed range is kept unmapped and never given out again, so that what still points there is found.
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

#include "errors.h"
#include "log.h"

namespace softcann {
namespace {

constexpr size_t kPage = 4096;

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
  ~DeviceMemory() {
    log_event("memory", "\"peak_bytes\": " + std::to_string(peak_) + ", \"limit_bytes\": " + std::to_string(limit_));
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
    live_[reinterpret_cast<uintptr_t>(memory)] = size;
    *address = memory;
    return 0;
  }

  int free(void* address, const char* function) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(reinterpret_cast<uintptr_t>(address));
    if (found == live_.end())
      return error(kInvalidParameter, std::string(function) + ": " + hex(address) + " is not the start of a live allocation");
    used_ -= found->second;
    bury(found->first, found->second);
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
    *handle = new Physical{file, size};
    return 0;
  }

  int free_physical(void* handle) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto* physical = static_cast<Physical*>(handle);
    if (!physical) return error(kInvalidParameter, "aclrtFreePhysical: the handle is null");
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
    if (!reserved_.erase(reinterpret_cast<uintptr_t>(address)))
      return error(kInvalidParameter, "aclrtReleaseMemAddress: " + hex(address) + " was not reserved");
    return 0;
  }

  int map(void* address, size_t size, size_t offset, void* handle) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto start = reinterpret_cast<uintptr_t>(address);
    auto within = reserved_.upper_bound(start);
    const auto* physical = static_cast<const Physical*>(handle);
    if (within == reserved_.begin() || start + size > std::prev(within)->first + std::prev(within)->second)
      return error(kInvalidParameter, "aclrtMapMem: " + hex(address) + " is not in a reserved range");
    if (!physical || offset + size > whole_pages(physical->size))
      return error(kInvalidParameter, "aclrtMapMem: the physical memory is smaller than the range");
    if (mmap(address, whole_pages(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, physical->file,
             static_cast<off_t>(offset)) == MAP_FAILED)
      return error(kOutOfMemory, "aclrtMapMem: the host refused");
    live_[start] = size;
    return 0;
  }

  int unmap(void* address) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(reinterpret_cast<uintptr_t>(address));
    if (found == live_.end()) return error(kInvalidParameter, "aclrtUnmapMem: nothing is mapped at " + hex(address));
    bury(found->first, found->second);
    live_.erase(found);
    return 0;
  }

  std::string wrong_with(const void* address, size_t size) {
    if (!address) return "a null address";
    std::lock_guard<std::mutex> lock(mutex_);
    const auto start = reinterpret_cast<uintptr_t>(address);
    // Ranges mapped side by side are one range to whoever uses them.
    uintptr_t at = start;
    while (true) {
      auto next = live_.upper_bound(at);
      if (next == live_.begin()) break;
      --next;
      const uintptr_t end = next->first + next->second;
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

  int take(size_t size) {
    if (size == 0) return error(kInvalidParameter, "device memory: asked for 0 bytes");
    if (size > limit_ - used_)
      return error(kOutOfMemory, "device memory: asked for " + std::to_string(size) + " bytes, " + std::to_string(used_) +
                                     " of " + std::to_string(limit_) + " are in use (SOFTCANN_MEMORY_GIB)");
    used_ += size;
    peak_ = std::max(peak_, used_);
    return 0;
  }

  void bury(uintptr_t start, size_t size) {
    mmap(reinterpret_cast<void*>(start), whole_pages(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
         -1, 0);
    freed_[start] = size;
  }

  std::mutex mutex_;
  std::map<uintptr_t, size_t> live_, freed_, reserved_;
  size_t limit_ = device_bytes(), used_ = 0, peak_ = 0;
};

DeviceMemory& memory() {
  static DeviceMemory device;
  return device;
}

enum : int { kHostToHost = 0, kHostToDevice = 1, kDeviceToHost = 2, kDeviceToDevice = 3 };

int copy(const char* function, void* target, size_t room, const void* source, size_t size, int kind) {
  if (size == 0) return 0;
  std::string wrong;
  if (size > room) wrong = std::to_string(size) + " bytes into room for " + std::to_string(room);
  if (wrong.empty() && (!target || !source)) wrong = target ? "a null source" : "a null destination";
  if (wrong.empty() && (kind == kHostToDevice || kind == kDeviceToDevice)) {
    wrong = wrong_with(target, size);
    if (!wrong.empty()) wrong += " as destination";
  }
  if (wrong.empty() && (kind == kDeviceToHost || kind == kDeviceToDevice)) {
    wrong = wrong_with(source, size);
    if (!wrong.empty()) wrong += " as source";
  }
  if (!wrong.empty()) return error(kInvalidParameter, std::string(function) + ": found " + wrong);
  std::memmove(target, source, size);
  return 0;
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

int aclrtMallocHost(void** address, size_t size) {
  *address = std::aligned_alloc(64, (std::max<size_t>(size, 1) + 63) / 64 * 64);
  return *address ? 0 : softcann::kOutOfMemory;
}
int aclrtFreeHost(void* address) {
  std::free(address);
  return 0;
}

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
int aclrtMemcpyAsync(void* target, size_t room, const void* source, size_t size, int kind, void*) {
  return softcann::copy("aclrtMemcpyAsync", target, room, source, size, kind);
}
int aclrtMemset(void* target, size_t room, int value, size_t size) {
  return softcann::set("aclrtMemset", target, room, value, size);
}
int aclrtMemsetAsync(void* target, size_t room, int value, size_t size, void*) {
  return softcann::set("aclrtMemsetAsync", target, room, value, size);
}

}
