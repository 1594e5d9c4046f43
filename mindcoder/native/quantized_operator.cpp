// Products with a quantized weight as layers' operators.
#include <vector>

#include "arguments.h"
#include "gemm.h"
#include "operator_list.h"
#include "quantized.h"

namespace {

constexpr int64_t FEW_ROWS = 16;  // up to here the integers are multiplied as they are, with more rows in panels of floats

GemmType element(const Arguments &arguments, int index) {
  if (arguments.is(index, "float32")) return GemmType::float32;
  if (arguments.is(index, "bfloat16")) return GemmType::bfloat16;
  if (arguments.is(index, "float16")) return GemmType::float16;
  arguments.refuse(index, "expected float32, bfloat16 or float16");
}

// The weight [N, K] as MindSpore describes it: scales and offsets of any float [N], [1, N] or [groups, N], where an
// integer stands for (q + offset) * scale.
struct Weight {
  std::vector<float> scale, offset;  // [N, groups]
  Matrix matrix;

  Weight(const Arguments &arguments, int weight, int scales, int offsets, int group_size) {
    if (arguments.ndim(weight) != 2) arguments.refuse(weight, "expected a matrix");
    const bool halves = arguments.is(weight, "uint8");
    if (!halves && !arguments.is(weight, "int8")) arguments.refuse(weight, "expected int8, or uint8 of two numbers each");
    const int64_t outputs = arguments.size(weight, 0), inputs = arguments.size(weight, 1) * (halves ? 2 : 1);
    const int64_t size = arguments.integer(group_size), groups = size == 0 ? 1 : inputs / size;
    const Format format = halves ? Format::int4 : Format::int8;
    if (size < 0 || (size > 0 && inputs % size != 0) || !knows_groups(format, inputs, groups))
      arguments.refuse(group_size, "expected 0 or a multiple of 32 that divides " + std::to_string(inputs));
    scale = turned(arguments, scales, groups, outputs, 1);
    if (arguments.has(offsets) && arguments.size(offsets) > 0) offset = turned(arguments, offsets, groups, outputs, -1);
    matrix = {{arguments.raw(weight), format}, outputs, inputs, {scale.data(), offset.empty() ? nullptr : offset.data(), groups}};
  }

  static std::vector<float> turned(const Arguments &arguments, int index, int64_t groups, int64_t outputs, float sign) {
    if (arguments.size(index) != groups * outputs || arguments.size(index, -1) != outputs)
      arguments.refuse(index, "expected [" + std::to_string(groups) + ", " + std::to_string(outputs) + "]");
    std::vector<float> result(static_cast<size_t>(groups * outputs));
    with_float(arguments, index, [&](auto *type) {
      const auto *from = arguments.data<Element<decltype(type)>>(index);
      for (int64_t group = 0; group < groups; group++)
        for (int64_t output = 0; output < outputs; output++)
          result[output * groups + group] = sign * static_cast<float>(from[group * outputs + output]);
    });
    return result;
  }
};

// A weight [N, K] of two codes of NF4 a byte, uint8 [N, K / 2], in blocks of neighbouring inputs. `absmax` has the scale of
// each block, [N, blocks]: float32; or uint8, of which `map` [256] has the numbers: a block's scale is then its number times
// `nested` of its 256 blocks, in order, plus `offset`.
struct CodedWeight {
  std::vector<float> scale;
  Matrix matrix;

  CodedWeight(const Arguments &arguments, int weight, int absmax, int nested, int offset, int map) {
    if (arguments.ndim(weight) != 2 || !arguments.is(weight, "uint8")) arguments.refuse(weight, "expected a matrix of uint8");
    const int64_t outputs = arguments.size(weight, 0), inputs = arguments.size(weight, 1) * 2;
    const int64_t groups = arguments.ndim(absmax) == 2 ? arguments.size(absmax, 1) : 0;
    if (groups == 0 || arguments.size(absmax, 0) != outputs || !knows_groups(Format::nf4, inputs, groups))
      arguments.refuse(absmax, "expected [" + std::to_string(outputs) + ", blocks of a multiple of 32 inputs]");
    const float *scales = arguments.is(absmax, "float32") ? arguments.data<float>(absmax)
                                                          : expanded(arguments, absmax, nested, offset, map);
    matrix = {{arguments.raw(weight), Format::nf4}, outputs, inputs, {scales, nullptr, groups}};
  }

  const float *expanded(const Arguments &arguments, int absmax, int nested, int offset, int map) {
    constexpr int64_t BLOCKS = 256;
    const int64_t count = arguments.size(absmax);
    const uint8_t *numbers = arguments.data<uint8_t>(absmax);
    if (arguments.size(nested) != (count + BLOCKS - 1) / BLOCKS) arguments.refuse(nested, "expected a scale of 256 blocks");
    if (arguments.size(map) != 256) arguments.refuse(map, "expected 256 numbers");
    const float *scales = arguments.data<float>(nested), *values = arguments.data<float>(map);
    const float added = arguments.data<float>(offset)[0];
    scale.resize(static_cast<size_t>(count));
    for (int64_t at = 0; at < count; at++) scale[at] = values[numbers[at]] * scales[at / BLOCKS];
    for (float &number : scale) number += added;  // apart, so that both steps are rounded, as bitsandbytes does
    return scale.data();
  }
};

void expect_rows(const Arguments &arguments, int index, int64_t columns) {
  if (arguments.ndim(index) != 2 || arguments.size(index, 1) != columns)
    arguments.refuse(index, "expected [rows, " + std::to_string(columns) + "]");
}

// from [rows, k] times a weight that has `n` rows along `k` -> to [rows, n].
void multiply(const Arguments &arguments, int from, int to, const GemmOperand &weight, int64_t n, int64_t k) {
  const int64_t rows = arguments.size(from, 0);
  gemm({.batch = 1,
        .m = rows,
        .n = n,
        .k = k,
        .a = rows_of(arguments.raw(from), element(arguments, from), k),
        .b = weight,
        .c = arguments.raw(to),
        .element = element(arguments, to),
        .row_stride = n,
        .batch_stride = rows * n});
}

}  // namespace

// x [M, K], weight [N, K] int8 (or uint8 [N, K / 2], see numbers.h), scale, offset, no scale and offset of the result, no
// bias, x as it is, weight transposed, group size (0: one group) -> [M, N].
void weight_quant_batch_matmul(const Arguments &arguments) {
  using Index = argument::WeightQuantBatchMatmul;
  for (int missing : {Index::quant_scale, Index::quant_offset, Index::bias})
    if (arguments.has(missing) && arguments.size(missing) > 0) arguments.refuse(missing, "expected none");
  if (arguments.flag(Index::transpose_x)) arguments.refuse(Index::transpose_x, "expected x as it is");
  if (!arguments.flag(Index::transpose_weight)) arguments.refuse(Index::transpose_weight, "expected a transposed weight");
  const Weight weight(arguments, Index::weight, Index::antiquant_scale, Index::antiquant_offset, Index::antiquant_group_size);
  const Matrix &matrix = weight.matrix;
  expect_rows(arguments, Index::x, matrix.inputs);
  expect_rows(arguments, Index::y, matrix.outputs);
  const int64_t rows = arguments.size(Index::x, 0);
  if (rows <= FEW_ROWS && arguments.is(Index::x, "float32"))
    multiply_integers({arguments.data<float>(Index::x), rows, matrix, {}, nullptr, arguments.data<float>(Index::y)});
  else multiply(arguments, Index::x, Index::y, rows_of(matrix), matrix.outputs, matrix.inputs);
}

// The gradient of x [M, K] from that of the result; `per_byte` has as many elements as there are numbers in a byte.
void weight_quant_batch_matmul_gradient(const Arguments &arguments) {
  using Index = argument::WeightQuantBatchMatmulGrad;
  const Weight weight(arguments, Index::weight, Index::antiquant_scale, Index::antiquant_offset, Index::antiquant_group_size);
  const Matrix &matrix = weight.matrix;
  expect_rows(arguments, Index::dy, matrix.outputs);
  expect_rows(arguments, Index::dx, matrix.inputs);
  multiply(arguments, Index::dy, Index::dx, columns_of(matrix), matrix.inputs, matrix.outputs);
}

// x [M, K] and a `CodedWeight` [N, K] -> [M, N].
void nf4_matmul(const Arguments &arguments) {
  using Index = argument::Nf4Matmul;
  const CodedWeight weight(arguments, Index::weight, Index::absmax, Index::nested_absmax, Index::nested_offset, Index::nested_map);
  const Matrix &matrix = weight.matrix;
  expect_rows(arguments, Index::x, matrix.inputs);
  expect_rows(arguments, Index::y, matrix.outputs);
  const int64_t rows = arguments.size(Index::x, 0);
  if (rows <= FEW_ROWS && arguments.is(Index::x, "float32"))
    multiply_integers({arguments.data<float>(Index::x), rows, matrix, {}, nullptr, arguments.data<float>(Index::y)});
  else multiply(arguments, Index::x, Index::y, rows_of(matrix), matrix.outputs, matrix.inputs);
}

// The gradient of x [M, K] from that of the result.
void nf4_matmul_gradient(const Arguments &arguments) {
  using Index = argument::Nf4MatmulGrad;
  const CodedWeight weight(arguments, Index::weight, Index::absmax, Index::nested_absmax, Index::nested_offset, Index::nested_map);
  const Matrix &matrix = weight.matrix;
  expect_rows(arguments, Index::dy, matrix.outputs);
  expect_rows(arguments, Index::dx, matrix.inputs);
  multiply(arguments, Index::dy, Index::dx, columns_of(matrix), matrix.inputs, matrix.outputs);
}
