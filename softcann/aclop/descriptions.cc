#include "descriptions.h"

#include "errors.h"
#include "log.h"

namespace softcann {

std::string TensorDescription::text() const {
  std::string sizes;
  for (const int64_t size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  return "{\"dtype\": " + quoted(name_of(dtype)) + ", \"shape\": [" + sizes + "]}";
}

}  // namespace softcann

using namespace softcann;

extern "C" {

TensorDescription* aclCreateTensorDesc(int dtype, int rank, const int64_t* shape, int format) {
  auto* tensor = new TensorDescription;
  tensor->dtype = static_cast<Dtype>(dtype);
  if (rank > 0) tensor->shape.assign(shape, shape + rank);
  tensor->format = format;
  return tensor;
}
void aclDestroyTensorDesc(const TensorDescription* tensor) { delete tensor; }
int aclSetTensorFormat(TensorDescription*, int) { return 0; }           // the device's own layout; softcann has none
int aclSetTensorShape(TensorDescription*, int, const int64_t*) { return 0; }
int aclSetTensorPlaceMent(TensorDescription* tensor, int place) {
  tensor->on_host = place != 0;  // ACL_MEMTYPE_DEVICE is 0
  return 0;
}
void aclSetTensorDescName(TensorDescription* tensor, const char* name) { tensor->name = name ? name : ""; }
const char* aclGetTensorDescName(TensorDescription* tensor) { return tensor->name.c_str(); }
int aclSetTensorConst(TensorDescription* tensor, void* data, size_t size) {
  tensor->constant.assign(static_cast<char*>(data), static_cast<char*>(data) + size);
  return 0;
}
size_t aclGetTensorDescNumDims(const TensorDescription* tensor) { return tensor->shape.size(); }
size_t aclGetTensorDescSize(const TensorDescription* tensor) {
  return static_cast<size_t>(count(tensor->shape)) * size_of(tensor->dtype);
}
int64_t aclGetTensorDescDim(const TensorDescription* tensor, size_t index) {
  return index < tensor->shape.size() ? tensor->shape[index] : -1;
}
int aclGetTensorDescDimV2(const TensorDescription* tensor, size_t index, int64_t* size) {
  if (index >= tensor->shape.size()) return error(kInvalidParameter, "aclGetTensorDescDimV2: no such dimension");
  *size = tensor->shape[index];
  return 0;
}

DataBuffer* aclCreateDataBuffer(void* address, size_t size) { return new DataBuffer{address, size}; }
int aclDestroyDataBuffer(const DataBuffer* buffer) {
  delete buffer;
  return 0;
}
int aclUpdateDataBuffer(DataBuffer* buffer, void* address, size_t size) {
  *buffer = {address, size};
  return 0;
}
void* aclGetDataBufferAddr(const DataBuffer* buffer) { return buffer->address; }

Attributes* aclopCreateAttr() { return new Attributes; }
void aclopDestroyAttr(const Attributes* attributes) { delete attributes; }
int aclopSetAttrInt(Attributes* attributes, const char* name, int64_t value) {
  attributes->integers[name] = value;
  return 0;
}
int aclopSetAttrBool(Attributes* attributes, const char* name, uint8_t value) {
  attributes->integers[name] = value;
  return 0;
}
int aclopSetAttrString(Attributes* attributes, const char* name, const char* value) {
  attributes->others[name] = value;
  return 0;
}
int aclopSetAttrFloat(Attributes* attributes, const char* name, float value) {
  attributes->others[name] = std::to_string(value);
  return 0;
}
int aclopSetAttrDataType(Attributes* attributes, const char* name, int value) {
  attributes->integers[name] = value;
  return 0;
}
int aclopSetAttrListInt(Attributes* attributes, const char* name, int, const int64_t*) {
  attributes->others[name] = "integers";
  return 0;
}
int aclopSetAttrListFloat(Attributes* attributes, const char* name, int, const float*) {
  attributes->others[name] = "floats";
  return 0;
}
int aclopSetAttrListBool(Attributes* attributes, const char* name, int, const uint8_t*) {
  attributes->others[name] = "booleans";
  return 0;
}
int aclopSetAttrListString(Attributes* attributes, const char* name, int, const char**) {
  attributes->others[name] = "strings";
  return 0;
}
int aclopSetAttrListDataType(Attributes* attributes, const char* name, int, const int*) {
  attributes->others[name] = "dtypes";
  return 0;
}
int aclopSetAttrListListInt(Attributes* attributes, const char* name, int, const int*, const int64_t* const*) {
  attributes->others[name] = "lists of integers";
  return 0;
}

}
