// The device that softcann pretends to be, its contexts, streams and events.
//
// A stream runs each call at once, in the caller's thread. That is one of the orders that a device may choose, always the
// same one: results are deterministic, and an event is complete as soon as it is recorded.
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "errors.h"
#include "streams.h"

namespace {

enum class Kind { context, stream, event };
const char* name_of(Kind kind) { return kind == Kind::context ? "a context" : kind == Kind::stream ? "a stream" : "an event"; }

// Never destroyed: at exit MindSpore's threads and singletons call in any order.
std::mutex& mutex = *new std::mutex;
auto& handles = *new std::unordered_map<const void*, Kind>;  // live contexts, streams and events
thread_local int current_device = 0;
thread_local void* current_context = nullptr;

struct Handle {
  bool recorded = false;
  uint64_t microseconds = 0;  // when an event was recorded
  int32_t device = 0;
};

int create(void** out, Kind kind) {
  auto* handle = new Handle;
  handle->device = current_device;
  std::lock_guard<std::mutex> lock(mutex);
  handles[handle] = kind;
  *out = handle;
  return 0;
}

int wrong(const std::string& message) { return softcann::error(softcann::kInvalidHandle, message); }

// 0 where `handle` is alive and of that kind; a null stream is the default stream, a null context none.
int checked(const void* handle, Kind kind, const char* function) {
  if (!handle && kind != Kind::event) return 0;
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = handles.find(handle);
  if (found == handles.end()) return wrong(std::string(function) + ": found " + name_of(kind) + " that was destroyed, or never made");
  if (found->second != kind) return wrong(std::string(function) + ": found the handle of " + name_of(found->second) + ", expected " + name_of(kind));
  return 0;
}

// As `checked`, of an event that was recorded: on a card a wait for one that never is does not end (unverified).
int recorded(const void* event, const char* function) {
  if (const int code = checked(event, Kind::event, function)) return code;
  if (!static_cast<const Handle*>(event)->recorded) return wrong(std::string(function) + ": found an event that was never recorded");
  return 0;
}

int destroy(void* handle, Kind kind, const char* function) {
  if (!handle) return wrong(std::string(function) + ": found null");
  if (const int code = checked(handle, kind, function)) return code;
  std::lock_guard<std::mutex> lock(mutex);
  if (handles.erase(handle)) delete static_cast<Handle*>(handle);
  return 0;
}

uint64_t now() {
  timeval time;
  gettimeofday(&time, nullptr);
  return static_cast<uint64_t>(time.tv_sec) * 1000000 + static_cast<uint64_t>(time.tv_usec);
}

constexpr uint32_t kCubeCores = 24, kVectorCores = 48;  // Ascend 910B2
uint32_t cores(int type) { return type == 0 ? kCubeCores : kVectorCores; }

}  // namespace

int softcann::check_stream(const void* stream, const char* function) { return checked(stream, Kind::stream, function); }

extern "C" {

const char* aclrtGetSocName() {
  const char* name = std::getenv("SOFTCANN_SOC");
  return name ? name : "Ascend910B2";
}
int rtGetSocVersion(char* version, uint32_t size) {
  std::strncpy(version, aclrtGetSocName(), size);
  return 0;
}
int rtSetSocVersion(const char*) { return 0; }

int aclInit(const char*) { return 0; }
int aclFinalize() { return 0; }
int aclrtGetDeviceCount(uint32_t* count) {
  *count = 8;
  return 0;
}
int aclrtSetDevice(int32_t device) {
  if (device < 0 || device >= 8) return softcann::error(softcann::kInvalidParameter, "aclrtSetDevice: found device " + std::to_string(device) + ", expected 0 to 7");
  current_device = device;
  return 0;
}
int aclrtGetDevice(int32_t* device) {
  *device = current_device;
  return 0;
}
int aclrtResetDevice(int32_t) { return 0; }
int aclrtGetRunMode(int* mode) {
  *mode = 1;  // ACL_HOST: MindSpore runs beside the device, not on it
  return 0;
}
int aclrtGetDeviceResLimit(int32_t, int type, uint32_t* value) {
  *value = cores(type);
  return 0;
}
int aclrtGetStreamResLimit(void*, int type, uint32_t* value) {
  *value = cores(type);
  return 0;
}
int aclrtGetResInCurrentThread(int type, uint32_t* value) {
  *value = cores(type);
  return 0;
}
int aclrtSetDeviceResLimit(int32_t, int, uint32_t) { return 0; }
int aclrtSetStreamResLimit(void*, int, uint32_t) { return 0; }
int aclrtUseStreamResInCurrentThread(void*) { return 0; }
int aclrtResetStreamResLimit(void*) { return 0; }
int aclrtSetDeviceSatMode(int) { return 0; }
int aclrtCtxSetSysParamOpt(int, int64_t) { return 0; }
int aclrtSetOpExecuteTimeOut(uint32_t) { return 0; }
int aclrtSetOpWaitTimeout(uint32_t) { return 0; }
int aclrtSetExceptionInfoCallback(void*) { return 0; }
int aclrtGetLastError(int) { return 0; }

int aclrtCreateContext(void** context, int32_t device) {
  current_device = device;
  const int code = create(context, Kind::context);
  current_context = *context;
  return code;
}
int aclrtSetCurrentContext(void* context) {
  if (const int code = checked(context, Kind::context, "aclrtSetCurrentContext")) return code;
  current_context = context;
  if (context) current_device = static_cast<Handle*>(context)->device;
  return 0;
}
int aclrtGetCurrentContext(void** context) {
  if (!current_context) create(&current_context, Kind::context);
  *context = current_context;
  return 0;
}
int aclrtDestroyContext(void* context) { return destroy(context, Kind::context, "aclrtDestroyContext"); }

int aclrtCreateStream(void** stream) { return create(stream, Kind::stream); }
int aclrtCreateStreamWithConfig(void** stream, uint32_t, uint32_t) { return create(stream, Kind::stream); }
int aclrtDestroyStream(void* stream) { return destroy(stream, Kind::stream, "aclrtDestroyStream"); }
int aclrtDestroyStreamForce(void* stream) { return destroy(stream, Kind::stream, "aclrtDestroyStreamForce"); }
int aclrtSetStreamFailureMode(void*, uint64_t) { return 0; }
int aclrtSynchronizeStream(void* stream) { return checked(stream, Kind::stream, "aclrtSynchronizeStream"); }
int aclrtSynchronizeStreamWithTimeout(void* stream, int32_t) { return checked(stream, Kind::stream, "aclrtSynchronizeStreamWithTimeout"); }
int aclrtSynchronizeDevice() { return 0; }
int aclrtSynchronizeDeviceWithTimeout(int32_t) { return 0; }
int aclrtStreamQuery(void* stream, int* status) {
  *status = 0;  // ACL_STREAM_STATUS_COMPLETE
  return checked(stream, Kind::stream, "aclrtStreamQuery");
}
// The work before it is done, so a callback is called at once.
int aclrtLaunchCallback(void (*callback)(void*), void* argument, int, void* stream) {
  if (const int code = checked(stream, Kind::stream, "aclrtLaunchCallback")) return code;
  callback(argument);
  return 0;
}
// So nothing is ever reported, and the thread that asks waits as long as it said (milliseconds; -1 is for ever). MindSpore
// has such a thread for each stream: one that does not wait takes a core.
int aclrtProcessReport(int32_t timeout) {
  if (timeout == 0 || timeout < -1)
    return softcann::error(softcann::kInvalidParameter, "aclrtProcessReport: found a timeout of " + std::to_string(timeout) +
                                                            " ms, documented is -1 or more than 0");
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(timeout < 0 ? 1000 : timeout));
  } while (timeout < 0);
  return softcann::kReportTimeout;
}
int rtGetStreamId(void* stream, int32_t* id) {
  *id = static_cast<int32_t>(reinterpret_cast<uintptr_t>(stream) >> 4 & 0x7fffffff);
  return 0;
}

int aclrtCreateEvent(void** event) { return create(event, Kind::event); }
int aclrtCreateEventWithFlag(void** event, uint32_t) { return create(event, Kind::event); }
int aclrtCreateEventExWithFlag(void** event, uint32_t) { return create(event, Kind::event); }
int aclrtDestroyEvent(void* event) { return destroy(event, Kind::event, "aclrtDestroyEvent"); }
int aclrtRecordEvent(void* event, void* stream) {
  if (const int code = checked(event, Kind::event, "aclrtRecordEvent")) return code;
  if (const int code = checked(stream, Kind::stream, "aclrtRecordEvent")) return code;
  static_cast<Handle*>(event)->recorded = true;
  static_cast<Handle*>(event)->microseconds = now();
  return 0;
}
int aclrtResetEvent(void* event, void* stream) {
  if (const int code = checked(event, Kind::event, "aclrtResetEvent")) return code;
  return checked(stream, Kind::stream, "aclrtResetEvent");
}
int aclrtStreamWaitEvent(void* stream, void* event) {
  if (const int code = recorded(event, "aclrtStreamWaitEvent")) return code;
  return checked(stream, Kind::stream, "aclrtStreamWaitEvent");
}
int aclrtSynchronizeEvent(void* event) { return recorded(event, "aclrtSynchronizeEvent"); }
int aclrtQueryEventStatus(void* event, int* status) {
  if (const int code = checked(event, Kind::event, "aclrtQueryEventStatus")) return code;
  *status = static_cast<Handle*>(event)->recorded;  // aclrtEventRecordedStatus: 0 not ready, 1 complete
  return 0;
}
int aclrtEventElapsedTime(float* milliseconds, void* start, void* end) {
  for (const void* event : {start, end})
    if (const int code = recorded(event, "aclrtEventElapsedTime")) return code;
  const auto *from = static_cast<Handle*>(start), *to = static_cast<Handle*>(end);
  *milliseconds = static_cast<float>(static_cast<int64_t>(to->microseconds - from->microseconds)) / 1000;
  return 0;
}
int aclrtEventGetTimestamp(void* event, uint64_t* microseconds) {
  if (const int code = recorded(event, "aclrtEventGetTimestamp")) return code;
  *microseconds = static_cast<Handle*>(event)->microseconds;
  return 0;
}

// Peers are other processes, which reach each other through HCCL only.
int aclrtDeviceCanAccessPeer(int32_t* can, int32_t, int32_t) {
  *can = 0;
  return 0;
}
int aclGetDeviceCapability(uint32_t, int, int64_t* value) {
  *value = 0;
  return 0;
}
int aclmdlRICaptureGetInfo(void*, int* status, void** model) {
  *status = 0;  // ACL_MODEL_RI_CAPTURE_STATUS_NONE: nothing is captured
  *model = nullptr;
  return 0;
}
int mmGetPid() { return getpid(); }

}
