// How an operator is written: one function with the documented C signature, and both C symbols are made of it.
//
//   ACLNN(aclnnAdd, const Tensor* self, const Tensor* other, const Scalar* alpha, Tensor* out) {
//     document("https://…/aclnnAdd&aclnnInplaceAdd.md");
//     require(self, "self", kFloats | kInts | kBool);
//     require_broadcast(out, "out", self, other);
//     return launch([=] { … });
//   }
//
// The function is …GetWorkspaceSize: it looks at its arguments and refuses what the documentation does not allow. What it
// gives to launch() runs later, once for each call of the executor; tensors may have got other addresses by then, never
// other shapes. A `const Tensor*` is read, a `Tensor*` is written. Strings must be copied before they are captured.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "softcann/loops.h"
#include "softcann/objects.h"

namespace softcann {

enum : int { kSuccess = 0, kNullptr = 161001, kInvalid = 161002 };  // ACLNN_ERR_PARAM_NULLPTR, ACLNN_ERR_PARAM_INVALID

struct Launch {
  std::function<void()> work;
  uint64_t workspace = 0;  // bytes that MindSpore shall give; softcann computes without them
};

Launch launch(std::function<void()> work, uint64_t workspace = 0);

// Thrown by the require functions, caught by entry::prepare: the operator's name, page and message reach MindSpore.
struct Refusal {
  int code;
  std::string message;
};

void document(const char* page);  // where the constraints that follow are documented; named in a refusal
[[noreturn]] void refuse(const std::string& argument, const std::string& found, const std::string& documented);
void require_given(const void* argument, const char* name);                // not null, else kNullptr
void require(const Tensor* tensor, const char* name, Dtypes dtypes);       // given, and of one of the dtypes
void require_rank(const Tensor* tensor, const char* name, int64_t least, int64_t most);
void require_shape(const Tensor* tensor, const char* name, const Shape& shape);
void require_same_dtype(const Tensor* tensor, const char* name, const Tensor* as, const char* as_name);
void require_contiguous(const Tensor* tensor, const char* name);
void require_broadcast(const Tensor* out, const char* name, const Tensor* first, const Tensor* second);
// What two dtypes compute in: bool < integers < floats; float16 with bfloat16 is float32.
Dtype promote(Dtype first, Dtype second);

// What one prepared call needs: its name, the objects that it keeps alive, and its work.
class Executor {
 public:
  explicit Executor(const char* name) : name(name) {}
  ~Executor();
  void keep(const Object* object, bool written);
  void keep_value(const std::string& json);
  void check_addresses() const;  // throws Refusal: an address outside of live device memory
  const char* const name;
  bool repeatable = false;
  Launch launch;
  const std::string& arguments() const { return arguments_; }

 private:
  struct Kept {
    const Object* object;
    bool written;
  };
  std::vector<Kept> kept_;
  std::string arguments_;
};

// What all operators share of their two symbols; not templates, so that 200 operators do not compile it 200 times.
namespace entry {

using Build = void (*)(void* arguments, Executor& executor);
int prepare(const char* name, Build build, void* arguments, uint64_t* workspace, Executor** out);
int run(const char* name, void* workspace, uint64_t size, Executor* executor, void* stream);
void keep(Executor& executor, const Object* object, bool written);
void keep_text(Executor& executor, const char* text);
void keep_number(Executor& executor, double number);
void keep_whole(Executor& executor, int64_t number);

template <class T>
void keep(Executor& executor, T argument) {
  using Plain = std::remove_cv_t<std::remove_pointer_t<T>>;
  if constexpr (std::is_base_of_v<Object, Plain>)
    keep(executor, argument, !std::is_const_v<std::remove_pointer_t<T>>);
  else if constexpr (std::is_pointer_v<T> && std::is_same_v<Plain, char>)
    keep_text(executor, argument);
  else if constexpr (std::is_floating_point_v<T>)
    keep_number(executor, argument);
  else if constexpr (std::is_integral_v<T>)
    keep_whole(executor, static_cast<int64_t>(argument));
}

}  // namespace entry

template <auto build, const char* name>
struct Entry;

template <class... Arguments, Launch (*build)(Arguments...), const char* name>
struct Entry<build, name> {
  static int prepare(Arguments... arguments, uint64_t* workspace, Executor** out) {
    auto work = [&](Executor& executor) {
      (entry::keep(executor, arguments), ...);
      executor.launch = build(arguments...);
    };
    const entry::Build call = [](void* pointer, Executor& executor) { (*static_cast<decltype(work)*>(pointer))(executor); };
    return entry::prepare(name, call, &work, workspace, out);
  }
};

}  // namespace softcann

// The symbol …GetWorkspaceSize is resolved by the loader ("ifunc") to Entry::prepare, which has the same signature.
#define ACLNN(NAME, ...)                                                                                                \
  static softcann::Launch NAME##_build(__VA_ARGS__);                                                                    \
  static constexpr char NAME##_name[] = #NAME;                                                                          \
  extern "C" {                                                                                                          \
  __attribute__((used)) static decltype(&softcann::Entry<&NAME##_build, NAME##_name>::prepare) NAME##_resolve() {       \
    return &softcann::Entry<&NAME##_build, NAME##_name>::prepare;                                                       \
  }                                                                                                                     \
  int NAME##GetWorkspaceSize(__VA_ARGS__, uint64_t*, softcann::Executor**) __attribute__((ifunc(#NAME "_resolve")));    \
  int NAME(void* workspace, uint64_t size, softcann::Executor* executor, void* stream) {                                \
    return softcann::entry::run(NAME##_name, workspace, size, executor, stream);                                        \
  }                                                                                                                     \
  }                                                                                                                     \
  static softcann::Launch NAME##_build(__VA_ARGS__)

using namespace softcann;  // NOLINT: an operator file speaks of nothing else
