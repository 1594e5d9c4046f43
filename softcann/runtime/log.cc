#include "log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace softcann {
namespace {

int open_log() {
  const char* path = std::getenv("SOFTCANN_LOG");
  return path && *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
}

int log_file() {
  static const int file = open_log();
  return file;
}

}  // namespace

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char character : text) {
    if (character == '"' || character == '\\') {
      result += '\\';
      result += character;
    } else if (static_cast<unsigned char>(character) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", character);
      result += escape;
    } else {
      result += character;
    }
  }
  return result + "\"";
}

std::string number_text(double value) {
  if (value != value) return "\"nan\"";
  if (value > 1.7e308 || value < -1.7e308) return value > 0 ? "\"inf\"" : "\"-inf\"";
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.9g", value);
  return digits;
}

bool logging() { return log_file() >= 0; }

void log_event(const char* event, const std::string& fields) {
  if (!logging()) return;
  // One write of a short line to a file opened for appending: lines of several processes do not mix.
  const std::string line = "{\"event\": " + quoted(event) + ", \"pid\": " + std::to_string(getpid()) +
                           (fields.empty() ? "" : ", " + fields) + "}\n";
  if (write(log_file(), line.data(), line.size()) < 0) std::perror("SOFTCANN_LOG");
}

}  // namespace softcann
