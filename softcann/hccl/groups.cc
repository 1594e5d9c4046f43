#include "groups.h"

#include <unistd.h>

#include <cctype>
#include <cstring>
#include <map>

#include "errors.h"
#include "log.h"
#include "meeting.h"

namespace softcann {
namespace {

std::mutex mutex;
std::map<void*, std::unique_ptr<Communicator>> groups;

constexpr size_t kRootInfoBytes = 4108;  // HCCL_ROOT_INFO_BYTES
constexpr char kMagic[8] = "softcan";

// HcclRootInfo is ours to fill: where rank 0 has the group's memory.
struct RootInfo {
  char magic[8];
  Place place;
};

struct Configuration {  // HcclCommConfig, as far as the name; see MindSpore's hccl_adapter
  char reserved[24];
  uint32_t buffer_size, deterministic;
  char name[128];
};

std::string name_of(const void* configuration, uint32_t ranks) {
  const std::string anonymous = "of " + std::to_string(ranks) + " ranks";
  if (!configuration) return anonymous;
  const char* name = static_cast<const Configuration*>(configuration)->name;
  const size_t size = strnlen(name, sizeof Configuration::name);
  if (size == 0 || size == sizeof Configuration::name) return anonymous;
  for (size_t i = 0; i < size; ++i)
    if (!std::isprint(static_cast<unsigned char>(name[i]))) return anonymous;
  return std::string(name, size);
}

void join(const Place& place, uint32_t ranks, uint32_t rank, const std::string& name, void** handle) {
  auto group = std::make_unique<Communicator>(place, ranks, rank, name);
  log_event("hccl_group", quoted("name") + ": " + quoted(name) + ", \"ranks\": " + std::to_string(ranks) + ", \"rank\": " + std::to_string(rank));
  std::lock_guard<std::mutex> lock(mutex);
  *handle = group.get();
  groups[group.get()] = std::move(group);
}

void join_by_root(uint32_t ranks, const void* root, uint32_t rank, const void* configuration, void** handle) {
  if (!root || !handle) throw HcclFailure{kHcclPointer, "rootInfo or comm is null"};
  RootInfo information;
  std::memcpy(static_cast<void*>(&information), root, sizeof information);
  if (std::memcmp(information.magic, kMagic, sizeof kMagic) != 0)
    throw HcclFailure{kHcclParameter, "rootInfo does not come from HcclGetRootInfo"};
  join(information.place, ranks, rank, name_of(configuration, ranks), handle);
}

void join_by_table(const char* table, uint32_t rank, const void* configuration, void** handle) {
  if (!table || !handle) throw HcclFailure{kHcclPointer, "clusterInfo or comm is null"};
  const uint32_t ranks = ranks_in(table);
  Meeting meeting(table, ranks, rank);
  join(meeting.place(), ranks, rank, name_of(configuration, ranks), handle);
}

}  // namespace

Communicator& group_of(void* handle, const char* function) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = groups.find(handle);
  if (found == groups.end()) throw HcclFailure{kHcclParameter, std::string(function) + ": not a live communicator"};
  return *found->second;
}

int hccl(const char* function, const std::function<void()>& work) {
  try {
    work();
    return kHcclSuccess;
  } catch (const HcclFailure& failure) {
    return error(failure.code, std::string(function) + ": " + failure.message);
  }
}

}  // namespace softcann

using namespace softcann;

extern "C" {

int HcclGetRootInfo(void* root) {
  return hccl("HcclGetRootInfo", [&] {
    if (!root) throw HcclFailure{kHcclPointer, "rootInfo is null"};
    std::memset(root, 0, kRootInfoBytes);
    RootInfo information;
    std::memcpy(information.magic, kMagic, sizeof kMagic);
    information.place = Segment::create(0);
    std::memcpy(root, static_cast<const void*>(&information), sizeof information);
  });
}

// All ranks must be there when this returns, as on a card: MindSpore forgets rank 0's root info right after it.
int HcclCommInitRootInfo(uint32_t ranks, const void* root, uint32_t rank, void** handle) {
  return hccl("HcclCommInitRootInfo", [&] { join_by_root(ranks, root, rank, nullptr, handle); });
}
int HcclCommInitRootInfoConfig(uint32_t ranks, const void* root, uint32_t rank, const void* configuration, void** handle) {
  return hccl("HcclCommInitRootInfoConfig", [&] { join_by_root(ranks, root, rank, configuration, handle); });
}

int HcclCommInitClusterInfo(const char* table, uint32_t rank, void** handle) {
  return hccl("HcclCommInitClusterInfo", [&] { join_by_table(table, rank, nullptr, handle); });
}
int HcclCommInitClusterInfoConfig(const char* table, uint32_t rank, const void* configuration, void** handle) {
  return hccl("HcclCommInitClusterInfoConfig", [&] { join_by_table(table, rank, configuration, handle); });
}

int HcclCreateSubCommConfig(void** parent, uint32_t ranks, const uint32_t* members, uint64_t group, uint32_t rank,
                            const void* configuration, void** handle) {
  return hccl("HcclCreateSubCommConfig", [&] {
    if (!parent || !handle) throw HcclFailure{kHcclPointer, "comm or subComm is null"};
    *handle = nullptr;
    if (!members) return;  // a rank that is not in the group
    Communicator& whole = group_of(*parent, "HcclCreateSubCommConfig");
    const Place place = whole.sub_place(std::vector<uint32_t>(members, members + ranks), group);
    join(place, ranks, rank, name_of(configuration, ranks), handle);
  });
}

int HcclCommDestroy(void* handle) {
  return hccl("HcclCommDestroy", [&] {
    std::unique_ptr<Communicator> group;
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = groups.find(handle);
    if (found == groups.end()) throw HcclFailure{kHcclParameter, "not a live communicator"};
    group = std::move(found->second);
    groups.erase(found);
  });
}

int HcclGetCommName(void* handle, char* name) {
  return hccl("HcclGetCommName", [&] {
    std::strncpy(name, group_of(handle, "HcclGetCommName").name.c_str(), 127);
    name[127] = 0;
  });
}
int HcclGetRankId(void* handle, uint32_t* rank) {
  return hccl("HcclGetRankId", [&] { *rank = group_of(handle, "HcclGetRankId").rank; });
}
int HcclGetRankSize(void* handle, uint32_t* ranks) {
  return hccl("HcclGetRankSize", [&] { *ranks = group_of(handle, "HcclGetRankSize").ranks; });
}
int HcclGetCommAsyncError(void*, int* error) {
  *error = 0;  // calls are not asynchronous: each has failed by itself
  return 0;
}
const char* HcclGetErrorString(int code) {
  switch (code) {
    case kHcclSuccess: return "no error";
    case kHcclParameter: return "parameter error";
    case kHcclPointer: return "empty pointer";
    case kHcclNotSupported: return "feature not supported";
    case kHcclSystem: return "system call error";
    case kHcclTimeout: return "timeout error";
    case kHcclRemote: return "error of another rank";
    default: return "unknown error";
  }
}
uint32_t HcclGetCommConfigCapability() { return 0; }

}
