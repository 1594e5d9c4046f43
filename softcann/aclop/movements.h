// The operators of the old interface that softcann computes: only such as move data, each with its reason.
#pragma once

#include "descriptions.h"

namespace softcann {

struct OldCall {
  std::vector<const TensorDescription*> inputs, outputs;
  std::vector<const DataBuffer*> input_buffers, output_buffers;
  const Attributes* attributes;
};

struct Movement {
  const char* name;
  const char* reason;  // why MindSpore takes the old path here and no layer of ours can avoid it
  void (*work)(const OldCall&);
};

const Movement* movement(const std::string& name);  // null for an operator that computes

}  // namespace softcann
