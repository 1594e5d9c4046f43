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
#include <unordered_set>

#include "errors.h"

namespace {

std::mutex mutex;
std::unordered_set<const void*> handles;  // live contexts, streams and events
thread_local int current_device = 0;
thread_local void* current_context = nullptr;

struct Handle {
  uint64_t microseconds = 0;  // when an event was recorded
  int32_t device = 0;
};

int create(void** out) {
  auto* handle = new Handle;
  handle->device = current_device;
  std::lock_guard<std::mutex> lock(mutex);
  handles.insert(handle);
  *out = handle;
  return 0;
}

bool live(const void* handle) {
  std::lock_guard<std::mutex> lock(mutex);
  return handles.count(handle) != 0;
}

int destroy(void* handle, const char* function) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!handles.erase(handle)) return softcann::error(softcann::kInvalidHandle, std::string(function) + ": not a live handle");
  delete static_cast<Handle*>(handle);
  return 0;
}

// A null stream is the default stream.
int checked(const void* stream, const char* function) {
  if (stream && !live(stream))
    return softcann::error(softcann::kInvalidHandle, std::string(function) + ": found a stream or event that was destroyed");
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
  const int code = create(context);
  current_context = *context;
  return code;
}
int aclrtSetCurrentContext(void* context) {
  if (const int code = checked(context, "aclrtSetCurrentContext")) return code;
  current_context = context;
  if (context) current_device = static_cast<Handle*>(context)->device;
  return 0;
}
int aclrtGetCurrentContext(void** context) {
  if (!current_context) create(&current_context);
  *context = current_context;
  return 0;
}
int aclrtDestroyContext(void* context) { return destroy(context, "aclrtDestroyContext"); }

int aclrtCreateStream(void** stream) { return create(stream); }
int aclrtCreateStreamWithConfig(void** stream, uint32_t, uint32_t) { return create(stream); }
int aclrtDestroyStream(void* stream) { return destroy(stream, "aclrtDestroyStream"); }
int aclrtDestroyStreamForce(void* stream) { return destroy(stream, "aclrtDestroyStreamForce"); }
int aclrtSetStreamFailureMode(void*, uint64_t) { return 0; }
int aclrtSynchronizeStream(void* stream) { return checked(stream, "aclrtSynchronizeStream"); }
int aclrtSynchronizeStreamWithTimeout(void* stream, int32_t) { return checked(stream, "aclrtSynchronizeStreamWithTimeout"); }
int aclrtSynchronizeDevice() { return 0; }
int aclrtSynchronizeDeviceWithTimeout(int32_t) { return 0; }
int aclrtStreamQuery(void* stream, int* status) {
  *status = 0;  // ACL_STREAM_STATUS_COMPLETE
  return checked(stream, "aclrtStreamQuery");
}
// The work before it is done, so a callback is called at once.
int aclrtLaunchCallback(void (*callback)(void*), void* argument, int, void* stream) {
  if (const int code = checked(stream, "aclrtLaunchCallback")) return code;
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

int aclrtCreateEvent(void** event) { return create(event); }
int aclrtCreateEventWithFlag(void** event, uint32_t) { return create(event); }
int aclrtCreateEventExWithFlag(void** event, uint32_t) { return create(event); }
int aclrtDestroyEvent(void* event) { return destroy(event, "aclrtDestroyEvent"); }
int aclrtRecordEvent(void* event, void* stream) {
  if (!event || !live(event)) return softcann::error(softcann::kInvalidHandle, "aclrtRecordEvent: not a live event");
  static_cast<Handle*>(event)->microseconds = now();
  return checked(stream, "aclrtRecordEvent");
}
int aclrtResetEvent(void* event, void*) { return checked(event, "aclrtResetEvent"); }
int aclrtStreamWaitEvent(void* stream, void* event) {
  if (const int code = checked(event, "aclrtStreamWaitEvent")) return code;
  return checked(stream, "aclrtStreamWaitEvent");
}
int aclrtSynchronizeEvent(void* event) { return checked(event, "aclrtSynchronizeEvent"); }
int aclrtQueryEventStatus(void* event, int* status) {
  *status = 1;  // ACL_EVENT_RECORDED_STATUS_COMPLETE
  return checked(event, "aclrtQueryEventStatus");
}
int aclrtEventElapsedTime(float* milliseconds, void* start, void* end) {
  if (!live(start) || !live(end)) return softcann::error(softcann::kInvalidHandle, "aclrtEventElapsedTime: not a live event");
  const auto *from = static_cast<Handle*>(start), *to = static_cast<Handle*>(end);
  *milliseconds = static_cast<float>(static_cast<int64_t>(to->microseconds - from->microseconds)) / 1000;
  return 0;
}
int aclrtEventGetTimestamp(void* event, uint64_t* microseconds) {
  if (!live(event)) return softcann::error(softcann::kInvalidHandle, "aclrtEventGetTimestamp: not a live event");
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
