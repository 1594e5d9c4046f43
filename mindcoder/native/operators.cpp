// The operator that does a whole step of generation (ops.Custom, func_type "aot"). It gets the pointers and shapes of its
// inputs and output in the order of operators.def, and returns 0.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "argument_index.h"
#include "attention.h"
#include "linear.h"
#include "rows.h"
#include "thread_pool.h"

namespace {

struct Arguments {
  void **data;
  int64_t **shapes;
  const char **formats;

  const float *floats(int index) const { return static_cast<const float *>(data[index]); }
  const int32_t *ints(int index) const { return static_cast<const int32_t *>(data[index]); }
  float *output(int index) const { return static_cast<float *>(data[index]); }

  Numbers numbers(int index) const { return {data[index], format(index)}; }

  Format format(int index) const {
    const std::string name = formats[index];
    if (name == "int8") return Format::int8;
    if (name == "uint8") return Format::int4;
    return name == "float16" ? Format::float16 : Format::float32;
  }

  // An optional parameter; a single number stands for a missing one.
  Numbers optional(int index) const { return shapes[index][0] == 1 ? Numbers{} : numbers(index); }

  Matrix matrix(int index) const { return {numbers(index), shapes[index][0], shapes[index][1]}; }

  // One of integers, with its scales and offsets, and how activations are rounded. Sixteen numbers in place of
  // offsets are those of the codes of NF4.
  Matrix quantized(int index, int scale, int offset, int input) const {
    Matrix weight = matrix(index);
    if (format(index) == Format::int4) weight.inputs *= 2;
    const bool lowered = shapes[offset][0] == shapes[scale][0] && shapes[offset][1] == shapes[scale][1];
    if (!lowered && format(index) == Format::int4 && shapes[offset][1] == 16) weight.numbers.format = Format::nf4;
    weight.quantization = {floats(scale), lowered ? floats(offset) : nullptr, shapes[scale][1],
                           shapes[input][0] == 2 ? floats(input) : nullptr};
    return weight;
  }
};

struct Norm {
  Numbers weight, bias;
  float epsilon, offset;

  std::vector<float> operator()(const float *x, int64_t rows, int64_t size) const {
    std::vector<float> normed(rows * size);
    const auto work = [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++)
        normalize(x + row * size, size, weight, bias, epsilon, offset, normed.data() + row * size);
    };
    if (rows < thread_count()) {
      work(0, rows);
    } else {
      run_on_all_threads([&](int member) {
        const Range own = part_of(rows, member, thread_count(), 1);
        work(own.begin, own.end);
      });
    }
    return normed;
  }
};

// Embedding lookup.
void embed(const Numbers &table, const int32_t *indices, int64_t count, int64_t size, float *rows) {
  for (int64_t row = 0; row < count; row++) {
    for (int64_t at = 0; at < size; at++) rows[row * size + at] = number(table, indices[row] * size + at);
  }
}

using argument::AdapterWeights;
using argument::CacheScales;
using argument::LayerInputs;
using argument::QuantizedWeights;
using argument::StepFactors;
using argument::StepInputs;
using argument::StepSizes;
using argument::StepWeights;

// Where the weights of a linear layer are among the inputs of its layer: those of adapters (a, b) and of integers (scale,
// offset, input) among AdapterWeights and QuantizedWeights, which exist only if the network has any.
struct Projection {
  int weight, bias, a, b, scale, offset, input;
};

#define PROJECTION(NAME)                                                                                     \
  Projection {                                                                                               \
    LayerInputs::NAME, LayerInputs::NAME##_bias, AdapterWeights::NAME##_a, AdapterWeights::NAME##_b,         \
        QuantizedWeights::NAME##_scale, QuantizedWeights::NAME##_offset, QuantizedWeights::NAME##_input      \
  }

constexpr Projection QUERY = PROJECTION(query), KEY = PROJECTION(key), VALUE = PROJECTION(value), OUTPUT = PROJECTION(output);
constexpr Projection GATE = PROJECTION(gate), UP = PROJECTION(up), DOWN = PROJECTION(down);

// Index of the first layer's first input, and what each layer has.
struct Layers {
  int first;
  bool adapters, quantized;
  CacheKind cache;

  int adapter_weights() const { return LayerInputs::COUNT; }
  int quantized_weights() const { return adapter_weights() + (adapters ? AdapterWeights::COUNT : 0); }
  int cache_scales() const { return quantized_weights() + (quantized ? QuantizedWeights::COUNT : 0); }
  int each() const { return cache_scales() + (cache == CacheKind::floats ? 0 : CacheScales::COUNT); }

  // Whether there are whole layers between the step's weights and the output.
  bool fit(int parameters) const { return parameters > first && (parameters - 1 - first) % each() == 0; }
};

struct Layer {
  const Arguments &arguments;
  const Layers &layers;
  int first;
  const float *factors;  // StepFactors
  bool gelu;             // of a gated MLP: GELU, not SiLU
  const float *shares;  // scaling of each adapter column per row, [T, R]; null if no row uses an adapter

  Numbers optional(int index) const { return arguments.optional(first + index); }
  Matrix matrix(int index) const { return arguments.matrix(first + index); }
  Matrix matrix(const Projection &own) const {
    const Matrix weight = matrix(own.weight);
    const int scales = first + layers.quantized_weights();
    if (!weight.is_quantized()) return weight;
    return arguments.quantized(first + own.weight, scales + own.scale, scales + own.offset, scales + own.input);
  }
  Norm norm(int weight, int bias) const { return of(arguments.numbers(first + weight), optional(bias)); }
  Norm of(const Numbers &weight, const Numbers &bias) const {
    return {weight, bias, factors[StepFactors::norm_epsilon], factors[StepFactors::norm_offset]};
  }

  // Norms every head, if the layer has weights for it.
  void norm_heads(int weight, std::vector<float> &rows, int64_t size) const {
    const Numbers own = optional(weight);
    if (own.data != nullptr) rows = of(own, {})(rows.data(), rows.size() / size, size);
  }

  // to = rows + residual factor * projected.
  void add(const Projection &own, const float *x, Rows all, const float *rows, float *to) const {
    const float factor = factors[StepFactors::residual];
    project(own, x, all, factor == 1.0f ? rows : nullptr, to);
    if (factor != 1.0f) scale(to, factor, rows, all.count * matrix(own).outputs);
  }

  // y = x @ weight.T + bias (+ residual) (+ (x @ a.T * shares) @ b.T).
  void project(const Projection &own, const float *x, Rows rows, const float *residual, float *y) const {
    linear(x, rows, matrix(own), optional(own.bias), residual, y);
    const int a = layers.adapter_weights() + own.a;
    if (shares == nullptr || arguments.shapes[first + a][0] == 1) return;
    const Matrix reduce = matrix(a), expand = matrix(layers.adapter_weights() + own.b);
    const std::vector<float> plain(y, y + rows.count * expand.outputs);
    std::vector<float> reduced(rows.count * reduce.outputs);
    linear(x, rows, reduce, {}, nullptr, reduced.data());
    for (size_t at = 0; at < reduced.size(); at++) reduced[at] *= shares[at];
    linear(reduced.data(), rows, expand, {}, plain.data(), y);
  }

  Cache cache() const {
    Cache own{arguments.data[first + LayerInputs::key_pool], arguments.data[first + LayerInputs::value_pool], layers.cache};
    if (layers.cache == CacheKind::floats) return own;
    const int scales = first + layers.cache_scales();
    own.key_scales = arguments.output(scales + CacheScales::keys);
    own.value_scales = arguments.output(scales + CacheScales::values);
    return own;
  }

  std::vector<float> projected(const Projection &own, const std::vector<float> &x, Rows rows) const {
    std::vector<float> result(rows.count * matrix(own).outputs);
    project(own, x.data(), rows, nullptr, result.data());
    return result;
  }

  // to = rows + attention(norm(rows)); first writes the step's keys and values into the cache.
  void attention(const Step &step, Rows all, const Heads &heads, const float *angles, const float *rows, int64_t hidden,
                 float *to) const {
    const std::vector<float> normed = norm(LayerInputs::norm_weight, LayerInputs::norm_bias)(rows, step.count, hidden);
    std::vector<float> query = projected(QUERY, normed, all);
    std::vector<float> key = projected(KEY, normed, all);
    const std::vector<float> value = projected(VALUE, normed, all);
    norm_heads(LayerInputs::query_norm, query, heads.size);
    norm_heads(LayerInputs::key_norm, key, heads.size);
    if (angles != nullptr) {
      for (int64_t token = 0; token < step.count; token++) {
        rotate(query.data() + token * heads.query * heads.size, heads.query, heads.size, angles + token * heads.size);
        rotate(key.data() + token * heads.kv * heads.size, heads.kv, heads.size, angles + token * heads.size);
      }
    }
    scale(query.data(), factors[StepFactors::query_scale], nullptr, query.size());
    const Cache own = cache();
    write_cache(step, heads, key.data(), value.data(), own);
    std::vector<float> attn_output(query.size());
    attend(step, heads, query.data(), own, attn_output.data());
    add(OUTPUT, attn_output.data(), all, rows, to);
  }

  // to = rows + down(activation(up(norm(rows)))), or gated.
  void mlp(Rows all, const float *rows, int64_t hidden, float *to) const {
    const std::vector<float> normed = norm(LayerInputs::mlp_norm_weight, LayerInputs::mlp_norm_bias)(rows, all.count, hidden);
    std::vector<float> inner = projected(UP, normed, all);
    std::vector<float> gate;
    const bool gated = arguments.shapes[first + LayerInputs::gate][0] > 1;
    if (gated) gate = projected(GATE, normed, all);
    run_on_all_threads([&](int member) {
      const Range own = part_of(inner.size(), member, thread_count(), 64);
      float *const activated = (gated ? gate : inner).data() + own.begin;
      const int64_t size = own.end - own.begin;
      if (gated && !gelu) return gated_silu(activated, inner.data() + own.begin, size);
      ::gelu(activated, size);
      for (int64_t at = 0; gated && at < size; at++) activated[at] *= inner[own.begin + at];
    });
    add(DOWN, (gated ? gate : inner).data(), all, rows, to);
  }
};

constexpr int step_weight(int index) { return StepInputs::COUNT + index; }

}  // namespace

// A whole step of a network: looks up the first `counts[0]` of T tokens, of which the first `counts[2]` are prefill
// tokens, runs all layers, and returns logits [R, V] of the first `counts[1]` chosen ones. `counts[3]` tells whether
// any row uses an adapter. Without a head (a pipeline stage before the last) it returns the hidden states [T, H];
// without an embedding (a stage after the first) it takes them.
extern "C" int MindCoderStep(int parameters, void **data, int *, int64_t **shapes, const char **formats, void *, void *) {
  constexpr int TOKEN_TABLE = step_weight(StepWeights::token_table), POSITION_TABLE = step_weight(StepWeights::position_table);
  constexpr int SHARES = step_weight(StepWeights::shares), HEAD = step_weight(StepWeights::head);
  const Arguments arguments{data, shapes, formats};
  const bool has_adapters = parameters > SHARES && shapes[SHARES][0] > 1;
  const bool has_sizes = parameters > StepInputs::sizes;
  const bool is_quantized = has_sizes && arguments.ints(StepInputs::sizes)[StepSizes::quantized] != 0;
  const auto cache = static_cast<CacheKind>(has_sizes ? arguments.ints(StepInputs::sizes)[StepSizes::int8_cache] : 0);
  const Layers layers{step_weight(StepWeights::COUNT), has_adapters, is_quantized, cache};
  if (!layers.fit(parameters)) {
    std::fprintf(stderr, "mindcoder: operator MindCoderStep on CPU: found %d parameters, expected %d, %d a layer, and 1\n",
                 parameters, layers.first, layers.each());
    return 1;
  }
  const int32_t *sizes = arguments.ints(StepInputs::sizes), *counts = arguments.ints(StepInputs::counts);
  const int32_t *mapping = arguments.ints(StepInputs::mapping);
  const float *factors = arguments.floats(StepInputs::factors);
  const Heads heads{sizes[StepSizes::num_heads], sizes[StepSizes::num_kv_heads], sizes[StepSizes::head_dim]};
  const int64_t room = shapes[StepInputs::mapping][1], count = counts[0], hidden = sizes[StepSizes::hidden_size];
  const Step step{count,
                  mapping,
                  mapping + room,
                  mapping + 2 * room,
                  arguments.ints(StepInputs::block_tables),
                  shapes[StepInputs::block_tables][1],
                  sizes[StepSizes::block_size],
                  sizes[StepSizes::sliding_window]};
  const Rows all{count, counts[2]};
  const float *angles = shapes[StepInputs::angles][1] == heads.size ? arguments.floats(StepInputs::angles) : nullptr;

  std::vector<float> rows(count * hidden), between(count * hidden);
  if (shapes[TOKEN_TABLE][0] > 1) {
    embed(arguments.numbers(TOKEN_TABLE), arguments.ints(StepInputs::inputs), count, hidden, rows.data());
    if (shapes[POSITION_TABLE][0] > 1) {
      embed(arguments.numbers(POSITION_TABLE), mapping, count, hidden, between.data());
      for (int64_t at = 0; at < count * hidden; at++) rows[at] += between[at];
    }
    if (factors[StepFactors::embedding] != 1.0f) scale(rows.data(), factors[StepFactors::embedding], nullptr, rows.size());
  } else {
    std::memcpy(rows.data(), data[StepInputs::inputs], rows.size() * sizeof(float));
  }
  const float *shares = has_adapters && counts[3] > 0 ? arguments.floats(SHARES) : nullptr;
  const int32_t *rotates = arguments.ints(StepInputs::rotates);
  for (int first = layers.first; first < parameters - 1; first += layers.each()) {
    const Layer layer{arguments, layers, first, factors, sizes[StepSizes::gelu] != 0, shares};
    layer.attention(step, all, heads, *rotates++ != 0 ? angles : nullptr, rows.data(), hidden, between.data());
    layer.mlp(all, between.data(), hidden, rows.data());
  }
  float *result = arguments.output(parameters - 1);  // the output follows the inputs
  if (shapes[HEAD][0] == 1) {
    std::memcpy(result, rows.data(), rows.size() * sizeof(float));
    return 0;
  }
  const int32_t *chosen = arguments.ints(StepInputs::logits_indices);
  for (int64_t row = 0; row < counts[1]; row++)
    std::memcpy(&between[row * hidden], &rows[chosen[row] * hidden], hidden * sizeof(float));
  const Norm norm{arguments.numbers(step_weight(StepWeights::final_weight)),
                  arguments.optional(step_weight(StepWeights::final_bias)), factors[StepFactors::norm_epsilon],
                  factors[StepFactors::norm_offset]};
  Matrix head = arguments.matrix(HEAD);
  head.outputs = sizes[StepSizes::vocab_size];  // without the padding rows of the table
  linear(norm(between.data(), counts[1], hidden).data(), {counts[1], 0}, head, {}, nullptr, result);
  const int64_t logits = counts[1] * head.outputs;
  if (factors[StepFactors::logits] != 1.0f) scale(result, factors[StepFactors::logits], nullptr, logits);
  return 0;
}
