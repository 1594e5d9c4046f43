// MindSpore's operators MatMul, BatchMatMul, MatMulExt and Dense for its CPU operator plugin. Parameters are the inputs,
// then the output; flags are bool with no dimensions, an input that was left out has the dtype "none".
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "gemm.h"

namespace {

struct Tensor {
  void *data;
  const int64_t *shape;
  int ndim;
  std::string dtype;

  int64_t size(int axis) const { return shape[axis < 0 ? axis + ndim : axis]; }

  GemmType element() const {
    if (dtype == "float32") return GemmType::float32;
    if (dtype == "bfloat16") return GemmType::bfloat16;
    if (dtype == "float16") return GemmType::float16;
    throw std::invalid_argument("expected float32, bfloat16 or float16, found " + dtype);
  }
};

// A factor as a batch of matrices; a vector is a matrix with one row (of the left factor) or one column.
struct Matrices {
  Tensor tensor;
  bool turned;
  int64_t rows, columns;      // of one matrix, as it is multiplied
  std::vector<int64_t> batch;  // sizes of the other axes

  Matrices(const Tensor &given, bool turned, bool left) : tensor(given), turned(turned) {
    if (given.ndim == 0) throw std::invalid_argument("expected a matrix, found a number");
    if (given.ndim == 1) {
      rows = left ? 1 : given.size(0), columns = left ? given.size(0) : 1;
      return;
    }
    rows = given.size(turned ? -1 : -2), columns = given.size(turned ? -2 : -1);
    batch.assign(given.shape, given.shape + given.ndim - 2);
  }

  int64_t count() const {
    int64_t result = 1;
    for (const int64_t size : batch) result *= size;
    return result;
  }

  // Where the matrix for an item of the common batch begins: axes of size 1 are repeated.
  int64_t item(int64_t index, const std::vector<int64_t> &common) const {
    int64_t result = 0, step = 1;
    for (size_t axis = common.size(), own = batch.size(); own > 0; own--) {
      const int64_t at = index % common[--axis];
      index /= common[axis];
      result += (batch[own - 1] == 1 ? 0 : at) * step;
      step *= batch[own - 1];
    }
    return result;
  }

  // Factors are rows along the depth: A's rows, B's columns.
  GemmOperand along_rows() const { return turned ? operand(true, rows) : operand(false, columns); }
  GemmOperand along_columns() const { return turned ? operand(false, rows) : operand(true, columns); }

 private:
  GemmOperand operand(bool across, int64_t width) const {
    return across ? columns_of(tensor.data, tensor.element(), width, rows * columns)
                  : rows_of(tensor.data, tensor.element(), width, rows * columns);
  }
};

std::vector<int64_t> common_batch(const std::vector<int64_t> &a, const std::vector<int64_t> &b) {
  std::vector<int64_t> result(std::max(a.size(), b.size()), 1);
  for (const std::vector<int64_t> *one : {&a, &b}) {
    for (size_t axis = 0; axis < one->size(); axis++) {
      int64_t &size = result[result.size() - one->size() + axis];
      const int64_t own = (*one)[axis];
      if (own != size && own != 1 && size != 1)
        throw std::invalid_argument("batches of sizes " + std::to_string(size) + " and " + std::to_string(own));
      if (own != 1) size = own;
    }
  }
  return result;
}

void multiply(const Tensor &left, const Tensor &right, bool left_turned, bool right_turned, const Tensor *bias,
              const Tensor &result, int terms = 3) {
  Matrices a(left, left_turned, true), b(right, right_turned, false);
  if (a.columns != b.rows)
    throw std::invalid_argument("columns of the first factor: " + std::to_string(a.columns) + ", rows of the second: " +
                                std::to_string(b.rows));
  const std::vector<int64_t> common = common_batch(a.batch, b.batch);
  int64_t batch = 1;
  for (const int64_t size : common) batch *= size;
  GemmArguments arguments{.batch = batch,
                          .m = a.rows,
                          .n = b.columns,
                          .k = a.columns,
                          .a = a.along_rows(),
                          .b = b.along_columns(),
                          .c = result.data,
                          .element = result.element(),
                          .row_stride = b.columns,
                          .batch_stride = a.rows * b.columns,
                          .terms = terms};
  if (bias != nullptr) arguments.bias = bias->data, arguments.bias_element = bias->element();
  if (b.count() == 1 && (!a.turned || a.count() == 1)) {  // one weight for all: the batch is more rows
    arguments.m *= batch, arguments.batch = 1;
    return gemm(arguments);
  }
  if (a.count() == batch && b.count() == batch) return gemm(arguments);
  const void *const a_data = arguments.a.data, *const b_data = arguments.b.data;
  arguments.batch = 1;
  for (int64_t item = 0; item < batch; item++) {
    arguments.a.data = a_data, arguments.b.data = b_data;
    arguments.a.data = arguments.a.at(a.item(item, common), 0, 0);
    arguments.b.data = arguments.b.at(b.item(item, common), 0, 0);
    arguments.c = static_cast<char *>(result.data) + item * arguments.batch_stride * size_of(arguments.element);
    gemm(arguments);
  }
}

struct Parameters {
  const char *name;
  int count;
  void **data;
  int *ndims;
  int64_t **shapes;
  const char **dtypes;

  Tensor operator[](int index) const { return {data[index], shapes[index], ndims[index], dtypes[index]}; }
  bool flag(int index) const { return *static_cast<const bool *>(data[index]); }

  // 0, or 1 after the reason was printed.
  template <class Work>
  int run(int expected, const Work &work) const {
    try {
      if (count != expected)
        throw std::invalid_argument("expected " + std::to_string(expected) + " parameters (of MindSpore 2.9), found " +
                                    std::to_string(count));
      work(*this);
      return 0;
    } catch (const std::exception &error) {
      std::fprintf(stderr, "mindcoder: operator %s on CPU: %s\n", name, error.what());
      return 1;
    }
  }
};

void with_flags(const Parameters &given) {  // x, y, transpose_a, transpose_b | result
  multiply(given[0], given[1], given.flag(2), given.flag(3), nullptr, given[4]);
}

// x, y, transpose_a, transpose_b, bfloat16 terms | result
void with_terms(const Parameters &given) {
  const int64_t terms = *static_cast<const int64_t *>(given.data[4]);
  multiply(given[0], given[1], given.flag(2), given.flag(3), nullptr, given[5], static_cast<int>(terms));
}

void without_flags(const Parameters &given) {  // x, y | result
  multiply(given[0], given[1], false, false, nullptr, given[2]);
}

void dense(const Parameters &given) {  // x [..., inputs], weight [outputs, inputs], bias [outputs] or none | result
  const Tensor bias = given[2];
  multiply(given[0], given[1], false, given[1].ndim > 1, bias.dtype == "none" ? nullptr : &bias, given[3]);
}

}  // namespace

extern "C" {

int MatMul(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  return Parameters{"MatMul", count, data, ndims, shapes, dtypes}.run(5, with_flags);
}
int BatchMatMul(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  return Parameters{"BatchMatMul", count, data, ndims, shapes, dtypes}.run(5, with_flags);
}
int MatMulExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  return Parameters{"MatMulExt", count, data, ndims, shapes, dtypes}.run(3, without_flags);
}
int BatchMatMulExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  return Parameters{"BatchMatMulExt", count, data, ndims, shapes, dtypes}.run(3, without_flags);
}
int Dense(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  return Parameters{"Dense", count, data, ndims, shapes, dtypes}.run(4, dense);
}

// As `ops.Custom` calls it; MindSpore's has no say in the precision.
int CustomMatMul(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  return Parameters{"MatMul", count, data, ndims, shapes, dtypes}.run(6, with_terms);
}

}  // extern "C"
