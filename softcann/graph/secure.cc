// The bounded string functions of Huawei's C library that MindSpore calls ("securec"); 34 is ERANGE, as there.
#include <cstdarg>
#include <cstdio>
#include <cstring>

extern "C" {

__attribute__((weak)) int memcpy_s(void* target, size_t room, const void* source, size_t size) {
  if (size > room) return 34;
  std::memcpy(target, source, size);
  return 0;
}
__attribute__((weak)) int memset_s(void* target, size_t room, int value, size_t size) {
  if (size > room) return 34;
  std::memset(target, value, size);
  return 0;
}
__attribute__((weak)) int strcpy_s(char* target, size_t room, const char* source) {
  if (std::strlen(source) >= room) return 34;
  std::strcpy(target, source);
  return 0;
}
__attribute__((weak)) int vsnprintf_s(char* target, size_t room, size_t size, const char* format, va_list arguments) {
  return std::vsnprintf(target, room < size + 1 ? room : size + 1, format, arguments);
}
__attribute__((weak)) int snprintf_s(char* target, size_t room, size_t size, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int written = vsnprintf_s(target, room, size, format, arguments);
  va_end(arguments);
  return written;
}

}
