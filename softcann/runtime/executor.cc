// A prepared operator call: checks, runs and logs it, and keeps its tensors alive.
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "errors.h"
#include "log.h"
#include "memory.h"
#include "objects.h"
#include "overlap.h"
#include "softcann/aclnn.h"
#include "streams.h"

namespace softcann {
namespace {

void check_address(const Tensor& tensor) {
  if (tensor.count() == 0) return;
  std::string wrong = "a null address";
  if (tensor.address) {
    const Extent extent = extent_of(tensor);
    wrong = wrong_with(reinterpret_cast<const void*>(extent.first), extent.last - extent.first);
  }
  if (!wrong.empty()) throw Refusal{kOperatorFailed, "a tensor " + tensor.describe() + " is at " + wrong};
}

// Executors that were prepared and neither run once nor destroyed, with the page that their operator names.
class Prepared {
 public:
  void add(const Executor* executor, const std::string& page) {
    std::lock_guard<std::mutex> lock(mutex_);
    pages_[executor] = page;
  }
  bool find(const Executor* executor, std::string* page = nullptr) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = pages_.find(executor);
    if (found == pages_.end()) return false;
    if (page) *page = found->second;
    return true;
  }
  bool remove(const Executor* executor) {
    std::lock_guard<std::mutex> lock(mutex_);
    return pages_.erase(executor) != 0;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<const Executor*, std::string> pages_;
};

Prepared& prepared() {
  static auto* all = new Prepared;  // never destroyed: MindSpore destroys executors at exit, in any order
  return *all;
}

constexpr char kGone[] = "the executor was destroyed, or run before without aclSetAclOpExecutorRepeatable";

// Operators that read other places than they write. Their output may not be their input, even as the very same view.
bool moves(const char* name) {
  for (const char* one : {"aclnnPermute", "aclnnMatmul", "aclnnMm", "aclnnBatchMatMul", "aclnnFlip", "aclnnRoll"})
    if (std::strcmp(name, one) == 0) return true;
  return false;
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
  for (size_t i = 0; i < written_tensors.size(); ++i) {
    const Tensor& out = *written_tensors[i];
    check_address(out);
    if (out.count() == 0) continue;
    if (repeats(out)) throw Refusal{kOperatorFailed, "the output " + out.describe() + " has elements at one address (stride 0)"};
    // In place is allowed: each element at its own place. Any other output that shares memory with an input is not.
    for (const Tensor* in : read_tensors)
      if ((moves(name) || !same_places(out, *in)) && overlap(out, *in))
        throw Refusal{kOperatorFailed, "the output " + out.describe() + " overlaps the input " + in->describe()};
    for (size_t j = 0; j < i; ++j)
      if (overlap(out, *written_tensors[j]))
        throw Refusal{kOperatorFailed, "the output " + out.describe() + " overlaps the output " + written_tensors[j]->describe()};
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
    prepared().add(executor.get(), page);
    *out = executor.release();
    return kSuccess;
  } catch (const Refusal& refusal) {
    return fail(name, refusal);
  } catch (const std::exception& error) {
    return fail(name, {kInvalid, error.what()});
  }
}

void keep(Executor& executor, const Object* object, bool written) {
  if (object && !alive(object)) throw Refusal{kInvalid, "found an argument that was destroyed, or never made"};
  if (const auto* tensor = dynamic_cast<const Tensor*>(object))
    for (const int64_t size : tensor->shape)
      if (size < 0) throw Refusal{kInvalid, "found a tensor of shape " + text(tensor->shape) + ", documented are sizes of 0 or more"};
  executor.keep(object, written);
}
void keep_text(Executor& executor, const char* text) {
  if (logging()) executor.keep_value(text ? quoted(text) : "null");
}
void keep_number(Executor& executor, double number) {
  if (logging()) executor.keep_value(number_text(number));
}
void keep_whole(Executor& executor, int64_t number) {
  if (logging()) executor.keep_value(std::to_string(number));
}

int run(const char* name, void* workspace, uint64_t size, Executor* executor, void* stream) {
  if (!executor) return error(kNullptr, std::string(name) + ": the executor is null");
  page.clear();
  if (!prepared().find(executor, &page)) return fail(name, {kInvalid, kGone});
  if (const int wrong = check_stream(stream, name)) return wrong;
  int code = kSuccess;
  const auto start = std::chrono::steady_clock::now();
  try {
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
  if (!executor->repeatable && prepared().remove(executor)) delete executor;
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
  if (!prepared().find(executor)) return error(kInvalid, std::string("aclSetAclOpExecutorRepeatable: ") + kGone);
  executor->repeatable = true;
  return 0;
}
int aclDestroyAclOpExecutor(Executor* executor) {
  if (executor && !prepared().remove(executor)) return error(kInvalid, std::string("aclDestroyAclOpExecutor: ") + kGone);
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
