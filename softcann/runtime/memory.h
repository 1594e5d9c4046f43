// Device memory: host memory, with a limit, a table of what is allocated, and the peak.
#pragma once

#include <cstddef>
#include <string>

namespace softcann {

// Empty when [address, address + size) lies within one live allocation of device memory; else what is wrong with it.
std::string wrong_with(const void* address, size_t size);

}  // namespace softcann
