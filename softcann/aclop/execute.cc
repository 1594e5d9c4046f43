// aclopCompileAndExecute: the interface before aclnn. MindSpore falls back to it for operators without an aclnn kernel. On a
// card each new shape is compiled for seconds, so softcann refuses all that compute: such layers are to be written otherwise.
#include "errors.h"
#include "log.h"
#include "movements.h"
#include "streams.h"

using namespace softcann;

namespace {

std::string list(const std::vector<const TensorDescription*>& tensors) {
  std::string result;
  for (const TensorDescription* tensor : tensors) result += (result.empty() ? "" : ", ") + (tensor ? tensor->text() : "null");
  return "[" + result + "]";
}

int execute(const char* name, const OldCall& call, const void* stream) {
  if (const int code = check_stream(stream, name)) return code;
  const Movement* known = movement(name);
  std::string wrong;
  if (!known) wrong = "the old path (aclop) has only data movements in softcann; write the layer with an operator that has an aclnn kernel";
  try {
    if (known) known->work(call);
  } catch (const std::exception& failure) {
    wrong = failure.what();
  }
  log_event("aclop", "\"name\": " + quoted(name) + ", \"inputs\": " + list(call.inputs) + ", \"outputs\": " + list(call.outputs) +
                         ", \"computed\": " + (wrong.empty() ? "true" : "false"));
  if (wrong.empty()) return 0;
  return error(kOperatorFailed, "aclop " + std::string(name) + " " + list(call.inputs) + " -> " + list(call.outputs) + ": " + wrong);
}

}  // namespace

extern "C" {

// MindSpore offers its memory pool for the workspace of these operators; data movements need none.
void* aclrtAllocatorCreateDesc() {
  static char description[64];
  return description;
}

int aclopCompileAndExecuteV2(const char* name, int inputs, TensorDescription* input[], DataBuffer* input_buffers[], int outputs,
                             TensorDescription* output[], DataBuffer* output_buffers[], Attributes* attributes, int, int, const char*,
                             void* stream) {
  return execute(name, {{input, input + inputs}, {output, output + outputs}, {input_buffers, input_buffers + inputs},
                        {output_buffers, output_buffers + outputs}, attributes}, stream);
}

int aclopCompileAndExecute(const char* name, int inputs, const TensorDescription* const input[], const DataBuffer* const input_buffers[],
                           int outputs, const TensorDescription* const output[], DataBuffer* const output_buffers[],
                           const Attributes* attributes, int, int, const char*, void* stream) {
  return execute(name, {{input, input + inputs}, {output, output + outputs}, {input_buffers, input_buffers + inputs},
                        {output_buffers, output_buffers + outputs}, attributes}, stream);
}

}
