// A prepared operator call: checks, runs and logs it, and keeps its tensors alive.
#include <chrono>
#include <memory>

#include "errors.h"
#include "log.h"
#include "memory.h"
#include "softcann/aclnn.h"

namespace softcann {
namespace {

// First and last byte (exclusive) that a view touches.
struct Extent {
  const char *first, *last;
};

Extent extent_of(const Tensor& tensor) {
  int64_t low = tensor.offset, high = tensor.offset;
  for (size_t axis = 0; axis < tensor.shape.size(); ++axis) {
    const int64_t reach = (tensor.shape[axis] - 1) * tensor.strides[axis];
    (reach < 0 ? low : high) += reach;
  }
  const auto size = static_cast<int64_t>(size_of(tensor.dtype));
  const char* base = static_cast<const char*>(tensor.address);
  return {base + low * size, base + (high + 1) * size};
}

void check_address(const Tensor& tensor) {
  if (tensor.count() == 0) return;
  std::string wrong = "a null address";
  if (tensor.address) {
    const Extent extent = extent_of(tensor);
    wrong = wrong_with(extent.first, static_cast<size_t>(extent.last - extent.first));
  }
  if (!wrong.empty()) throw Refusal{kOperatorFailed, "a tensor " + tensor.describe() + " is at " + wrong};
}

}  // namespace

Executor::~Executor() {
  for (const Kept& kept : kept_) kept.object->release();
}

void Executor::keep_value(const std::string& json) { arguments_ += (arguments_.empty() ? "" : ", ") + json; }

void Executor::keep(const Object* object, bool written) {
  if (logging()) keep_value(object ? object->describe() : "null");
  if (!object) return;
  object->retain();
  kept_.push_back({object, written});
}

void Executor::check_addresses() const {
  std::vector<const Tensor*> read_tensors, written_tensors;
  for (const Kept& kept : kept_) {
    auto& into = kept.written ? written_tensors : read_tensors;
    if (const auto* tensor = dynamic_cast<const Tensor*>(kept.object)) into.push_back(tensor);
    if (const auto* list = dynamic_cast<const TensorList*>(kept.object))
      for (const Tensor* tensor : list->tensors)
        if (tensor) into.push_back(tensor);
  }
  for (const Tensor* tensor : read_tensors) check_address(*tensor);
  for (const Tensor* out : written_tensors) {
    check_address(*out);
    if (out->count() == 0 || !out->contiguous()) continue;
    // In place is allowed (the same first byte); an output that begins inside of an input is not.
    const Extent to = extent_of(*out);
    for (const Tensor* in : read_tensors) {
      if (in->count() == 0 || !in->contiguous()) continue;
      const Extent from = extent_of(*in);
      if (from.first != to.first && from.first < to.last && to.first < from.last)
        throw Refusal{kOperatorFailed, "the output " + out->describe() + " overlaps the input " + in->describe()};
    }
  }
}

namespace entry {
namespace {

thread_local std::string page;

int fail(const char* name, const Refusal& refusal) {
  log_event("refused", "\"name\": " + quoted(name) + ", \"reason\": " + quoted(refusal.message));
  return error(refusal.code, std::string(name) + ": " + refusal.message + (page.empty() ? "" : " (" + page + ")"));
}

}  // namespace

int prepare(const char* name, Build build, void* arguments, uint64_t* workspace, Executor** out) {
  page.clear();
  auto executor = std::make_unique<Executor>(name);
  try {
    if (!workspace || !out) throw Refusal{kNullptr, "workspaceSize or executor is null"};
    build(arguments, *executor);
    *workspace = executor->launch.workspace;
    *out = executor.release();
    return kSuccess;
  } catch (const Refusal& refusal) {
    return fail(name, refusal);
  } catch (const std::exception& error) {
    return fail(name, {kInvalid, error.what()});
  }
}

void keep(Executor& executor, const Object* object, bool written) { executor.keep(object, written); }
void keep_text(Executor& executor, const char* text) {
  if (logging()) executor.keep_value(text ? quoted(text) : "null");
}
void keep_number(Executor& executor, double number) {
  if (logging()) executor.keep_value(number_text(number));
}
void keep_whole(Executor& executor, int64_t number) {
  if (logging()) executor.keep_value(std::to_string(number));
}

int run(const char* name, void* workspace, uint64_t size, Executor* executor, void*) {
  if (!executor) return error(kNullptr, std::string(name) + ": the executor is null");
  int code = kSuccess;
  const auto start = std::chrono::steady_clock::now();
  try {
    page.clear();
    if (std::string(name) != executor->name)
      throw Refusal{kInvalid, std::string("the executor was made by ") + executor->name + "GetWorkspaceSize"};
    if (executor->launch.workspace > 0) {
      const std::string wrong = size < executor->launch.workspace ? "too small" : wrong_with(workspace, size);
      if (!wrong.empty()) throw Refusal{kOperatorFailed, "the workspace is at " + wrong};
    }
    executor->check_addresses();
    executor->launch.work();
  } catch (const Refusal& refusal) {
    code = fail(name, refusal);
  } catch (const std::exception& failure) {
    code = fail(name, {kOperatorFailed, failure.what()});
  }
  if (logging()) {
    const auto spent = std::chrono::steady_clock::now() - start;
    log_event("aclnn", "\"name\": " + quoted(name) + ", \"arguments\": [" + executor->arguments() + "], \"microseconds\": " +
                           std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(spent).count()));
  }
  if (!executor->repeatable) delete executor;
  return code;
}

}  // namespace entry

Launch launch(std::function<void()> work, uint64_t workspace) { return {std::move(work), workspace}; }

void document(const char* page) { entry::page = page; }

}  // namespace softcann

using namespace softcann;

extern "C" {

int aclnnInit(const char*) { return 0; }
int aclnnFinalize() { return 0; }

int aclSetAclOpExecutorRepeatable(Executor* executor) {
  if (!executor) return error(kNullptr, "aclSetAclOpExecutorRepeatable: the executor is null");
  executor->repeatable = true;
  return 0;
}
int aclDestroyAclOpExecutor(Executor* executor) {
  delete executor;
  return 0;
}

// The index counts the tensors of the call, but the tensor is given too, and says it without doubt.
int aclSetTensorAddr(Executor*, size_t, Tensor* tensor, void* address) {
  if (!tensor) return error(kNullptr, "aclSetTensorAddr: the tensor is null");
  tensor->address = address;
  return 0;
}
int aclSetDynamicTensorAddr(Executor*, size_t, size_t position, TensorList* list, void* address) {
  if (!list || position >= list->size() || !(*list)[position])
    return error(kInvalid, "aclSetDynamicTensorAddr: the list has no tensor " + std::to_string(position));
  (*list)[position]->address = address;
  return 0;
}

}
