#include "errors.h"

#include <cstdio>
#include <mutex>

#include "log.h"

namespace softcann {
namespace {

// MindSpore launches in one thread and asks in another, so the message is the process's, not the thread's.
std::mutex& mutex = *new std::mutex;  // never destroyed: at exit MindSpore calls in any order
std::string& recent = *new std::string;

}  // namespace

int error(int code, const std::string& message) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    recent = "softcann: " + message;
  }
  // MindSpore asks for the message in most places, but says no more than "launch failed" in some.
  std::fprintf(stderr, "softcann: %s\n", message.c_str());
  log_event("error", quoted("code") + ": " + std::to_string(code) + ", " + quoted("message") + ": " + quoted(message));
  return code;
}

}  // namespace softcann

extern "C" const char* aclGetRecentErrMsg() {
  static thread_local std::string message;
  std::lock_guard<std::mutex> lock(softcann::mutex);
  message.swap(softcann::recent);
  softcann::recent.clear();
  return message.c_str();
}
