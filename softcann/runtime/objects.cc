// aclCreateTensor and its like: the descriptions that MindSpore hands to operators.
#include "softcann/objects.h"

#include <cstring>
#include <mutex>
#include <unordered_set>

#include "errors.h"
#include "log.h"
#include "objects.h"

namespace softcann {

size_t size_of(Dtype dtype) {
  size_t size = 0;
  dispatch(dtype, [&](auto zero) { size = sizeof zero; });
  if (dtype == Dtype::complex64) return 8;
  if (dtype == Dtype::complex128) return 16;
  return size;
}

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32: return "float32";
    case Dtype::float16: return "float16";
    case Dtype::int8: return "int8";
    case Dtype::int32: return "int32";
    case Dtype::uint8: return "uint8";
    case Dtype::int16: return "int16";
    case Dtype::uint16: return "uint16";
    case Dtype::uint32: return "uint32";
    case Dtype::int64: return "int64";
    case Dtype::uint64: return "uint64";
    case Dtype::float64: return "float64";
    case Dtype::boolean: return "bool";
    case Dtype::complex64: return "complex64";
    case Dtype::complex128: return "complex128";
    case Dtype::bfloat16: return "bfloat16";
    case Dtype::int4: return "int4";
    default: return "an unknown dtype";
  }
}

std::string names_of(Dtypes dtypes) {
  std::string names;
  for (int32_t number = 0; number < 64; ++number)
    if (dtypes >> number & 1) names += (names.empty() ? "" : ", ") + std::string(name_of(static_cast<Dtype>(number)));
  return names;
}

int64_t count(const Shape& shape) {
  int64_t total = 1;
  for (const int64_t size : shape) total *= size;
  return total;
}

namespace {

std::string joined(const Shape& values, const char* open, const char* close) {
  std::string result = open;
  for (size_t i = 0; i < values.size(); ++i) result += (i ? ", " : "") + std::to_string(values[i]);
  return result + close;
}

}  // namespace

std::string text(const Shape& shape) { return joined(shape, "(", ")"); }

Shape contiguous_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  for (size_t axis = shape.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * shape[axis];
  return strides;
}

bool Tensor::contiguous() const {
  int64_t expected = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

std::string Tensor::describe() const {
  return "{\"dtype\": " + quoted(name_of(dtype)) + ", \"shape\": " + joined(shape, "[", "]") +
         (contiguous() ? "" : ", \"strides\": " + joined(strides, "[", "]")) + "}";
}

std::string Scalar::describe() const {
  return "{\"scalar\": " + number_text(number) + ", \"dtype\": " + quoted(name_of(dtype)) + "}";
}

template <>
std::string Array<int64_t>::describe() const {
  return joined(values, "[", "]");
}

template <>
std::string Array<float>::describe() const {
  std::string result = "[";
  for (size_t i = 0; i < values.size(); ++i) result += (i ? ", " : "") + number_text(values[i]);
  return result + "]";
}

std::string BoolArray::describe() const {
  std::string result = "[";
  for (size_t i = 0; i < values.size(); ++i) result += std::string(i ? ", " : "") + (values[i] ? "true" : "false");
  return result + "]";
}

TensorList::~TensorList() {
  for (const Tensor* tensor : tensors)
    if (tensor) tensor->release();
}

std::string TensorList::describe() const {
  std::string result = "[";
  for (size_t i = 0; i < tensors.size(); ++i) result += (i ? ", " : "") + (tensors[i] ? tensors[i]->describe() : "null");
  return result + "]";
}

ScalarList::~ScalarList() {
  for (const Scalar* scalar : scalars)
    if (scalar) scalar->release();
}

std::string ScalarList::describe() const {
  std::string result = "[";
  for (size_t i = 0; i < scalars.size(); ++i) result += (i ? ", " : "") + (scalars[i] ? scalars[i]->describe() : "null");
  return result + "]";
}

namespace {

// What was made and not destroyed, so that a second destroy is an error and not a crash.
std::mutex& mutex = *new std::mutex;  // never destroyed: at exit MindSpore calls in any order
auto& made = *new std::unordered_set<const Object*>;

template <class T>
T* make(T* object) {
  std::lock_guard<std::mutex> lock(mutex);
  made.insert(object);
  return object;
}

int destroy(const void* handle, const char* function) {
  if (!handle) return 0;
  const auto* object = static_cast<const Object*>(handle);
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!made.erase(object)) return error(kInvalidHandle, std::string(function) + ": destroyed before, or never made");
  }
  object->release();
  return 0;
}

// A list owns what it was made of: destroying the list destroys that too ("aclDestroyTensorList").
template <class T>
void take(std::vector<T*>& into, T* const* from, uint64_t size) {
  std::lock_guard<std::mutex> lock(mutex);
  for (uint64_t i = 0; i < size; ++i) {
    into.push_back(from[i]);
    made.erase(from[i]);
  }
}

}  // namespace

bool alive(const Object* object) {
  std::lock_guard<std::mutex> lock(mutex);
  return made.count(object) != 0;
}

}  // namespace softcann

using namespace softcann;

extern "C" {

Tensor* aclCreateTensor(const int64_t* shape, uint64_t rank, int dtype, const int64_t* strides, int64_t offset, int format,
                        const int64_t* storage, uint64_t storage_rank, void* address) {
  auto* tensor = new Tensor;
  tensor->dtype = static_cast<Dtype>(dtype);
  tensor->shape.assign(shape, shape + rank);
  if (strides)
    tensor->strides.assign(strides, strides + rank);
  else
    tensor->strides = contiguous_strides(tensor->shape);
  if (storage) tensor->storage_shape.assign(storage, storage + storage_rank);
  tensor->offset = offset;
  tensor->format = format;
  tensor->address = address;
  return make(tensor);
}
int aclDestroyTensor(const Tensor* tensor) { return destroy(tensor, "aclDestroyTensor"); }

Scalar* aclCreateScalar(void* value, int dtype) {
  auto* scalar = new Scalar;
  scalar->dtype = static_cast<Dtype>(dtype);
  dispatch(scalar->dtype, [&](auto zero) {
    std::memcpy(static_cast<void*>(&zero), value, sizeof zero);
    scalar->number = static_cast<double>(zero);
    if constexpr (std::is_integral_v<decltype(zero)>) scalar->integer = static_cast<int64_t>(zero);
  });
  return make(scalar);
}
int aclDestroyScalar(const Scalar* scalar) { return destroy(scalar, "aclDestroyScalar"); }

IntArray* aclCreateIntArray(const int64_t* values, uint64_t size) {
  auto* array = new IntArray;
  array->values.assign(values, values + size);
  return make(array);
}
int aclDestroyIntArray(const IntArray* array) { return destroy(array, "aclDestroyIntArray"); }
int aclGetIntArraySize(const IntArray* array, uint64_t* size) {
  *size = array->size();
  return 0;
}

FloatArray* aclCreateFloatArray(const float* values, uint64_t size) {
  auto* array = new FloatArray;
  array->values.assign(values, values + size);
  return make(array);
}
int aclDestroyFloatArray(const FloatArray* array) { return destroy(array, "aclDestroyFloatArray"); }

BoolArray* aclCreateBoolArray(const bool* values, uint64_t size) {
  auto* array = new BoolArray;
  array->values.assign(values, values + size);
  return make(array);
}
int aclDestroyBoolArray(const BoolArray* array) { return destroy(array, "aclDestroyBoolArray"); }

TensorList* aclCreateTensorList(Tensor* const* tensors, uint64_t size) {
  auto* list = new TensorList;
  take(list->tensors, tensors, size);
  return make(list);
}
int aclDestroyTensorList(const TensorList* list) { return destroy(list, "aclDestroyTensorList"); }

ScalarList* aclCreateScalarList(Scalar* const* scalars, uint64_t size) {
  auto* list = new ScalarList;
  take(list->scalars, scalars, size);
  return make(list);
}
int aclDestroyScalarList(const ScalarList* list) { return destroy(list, "aclDestroyScalarList"); }

int aclGetViewShape(const Tensor* tensor, int64_t** shape, uint64_t* rank) {  // the caller deletes the array
  *rank = tensor->shape.size();
  *shape = new int64_t[tensor->shape.size() + 1];
  std::copy(tensor->shape.begin(), tensor->shape.end(), *shape);
  return 0;
}

size_t aclDataTypeSize(int dtype) { return size_of(static_cast<Dtype>(dtype)); }

}
