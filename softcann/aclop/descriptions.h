// What MindSpore describes a call of the old single-operator interface with: tensors, buffers and attributes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "softcann/objects.h"

namespace softcann {

struct TensorDescription {
  Dtype dtype = Dtype::undefined;
  Shape shape;
  int32_t format = 2;
  std::string name;
  bool on_host = false;        // its buffer is host memory
  std::vector<char> constant;  // a value known when the operator is compiled, on the host
  std::string text() const;    // JSON
};

struct DataBuffer {
  void* address = nullptr;
  size_t size = 0;
};

struct Attributes {
  std::map<std::string, int64_t> integers;
  std::map<std::string, std::string> others;  // named, for the log; no data movement asks for them
};

}  // namespace softcann
