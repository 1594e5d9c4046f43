// The operators that a MindSpore graph calls (ops.Custom, func_type "aot"). Each gets the pointers and shapes of its
// inputs and outputs, in the order of the lists in mindcoder/backend/native.py, and returns 0.
#include <cstring>
#include <string>
#include <vector>

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

  Numbers numbers(int index) const {
    const std::string name = formats[index];
    return {data[index], name == "float16" ? Format::float16 : Format::float32};
  }

  // An optional parameter; a single number stands for a missing one.
  Numbers optional(int index) const { return shapes[index][0] == 1 ? Numbers{} : numbers(index); }

  Matrix matrix(int index) const { return {numbers(index), shapes[index][0], shapes[index][1]}; }
};

struct Norm {
  Numbers weight, bias;
  float epsilon;

  std::vector<float> operator()(const float *x, int64_t rows, int64_t size) const {
    std::vector<float> normed(rows * size);
    const auto work = [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++)
        normalize(x + row * size, size, weight, bias, epsilon, normed.data() + row * size);
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

// Inputs of one layer, relative to its first. Those from QUERY_A on exist only if the network has adapters.
enum {
  NORM_WEIGHT, NORM_BIAS, QUERY, QUERY_BIAS, KEY, KEY_BIAS, VALUE, VALUE_BIAS, OUTPUT, OUTPUT_BIAS, KEY_POOL, VALUE_POOL,
  MLP_NORM_WEIGHT, MLP_NORM_BIAS, GATE, GATE_BIAS, UP, UP_BIAS, DOWN, DOWN_BIAS,
  QUERY_A, QUERY_B, KEY_A, KEY_B, VALUE_A, VALUE_B, OUTPUT_A, OUTPUT_B, GATE_A, GATE_B, UP_A, UP_B, DOWN_A, DOWN_B
};

struct Layer {
  const Arguments &arguments;
  int first;
  float epsilon;
  const float *shares;  // scaling of each adapter column per row, [T, R]; null if no row uses an adapter

  Numbers optional(int index) const { return arguments.optional(first + index); }
  Matrix matrix(int index) const { return arguments.matrix(first + index); }
  Norm norm(int index) const { return {arguments.numbers(first + index), optional(index + 1), epsilon}; }

  // y = x @ weight.T + bias (+ residual) (+ (x @ a.T * shares) @ b.T), with the layer's inputs `weight` and `a`.
  void project(int weight, int a, const float *x, Rows rows, const float *residual, float *y) const {
    linear(x, rows, matrix(weight), optional(weight + 1), residual, y);
    if (shares == nullptr || arguments.shapes[first + a][0] == 1) return;
    const Matrix reduce = matrix(a), expand = matrix(a + 1);
    const std::vector<float> plain(y, y + rows.count * expand.outputs);
    std::vector<float> reduced(rows.count * reduce.outputs);
    linear(x, rows, reduce, {}, nullptr, reduced.data());
    for (size_t at = 0; at < reduced.size(); at++) reduced[at] *= shares[at];
    linear(reduced.data(), rows, expand, {}, plain.data(), y);
  }

  std::vector<float> projected(int weight, int a, const std::vector<float> &x, Rows rows) const {
    std::vector<float> result(rows.count * matrix(weight).outputs);
    project(weight, a, x.data(), rows, nullptr, result.data());
    return result;
  }

  // to = rows + attention(norm(rows)); first writes the step's keys and values into the cache.
  void attention(const Step &step, Rows all, const Heads &heads, const float *angles, float query_scale, const float *rows,
                 int64_t hidden, float *to) const {
    const std::vector<float> normed = norm(NORM_WEIGHT)(rows, step.count, hidden);
    std::vector<float> query = projected(QUERY, QUERY_A, normed, all);
    std::vector<float> key = projected(KEY, KEY_A, normed, all);
    const std::vector<float> value = projected(VALUE, VALUE_A, normed, all);
    if (angles != nullptr) {
      for (int64_t token = 0; token < step.count; token++) {
        rotate(query.data() + token * heads.query * heads.size, heads.query, heads.size, angles + token * heads.size);
        rotate(key.data() + token * heads.kv * heads.size, heads.kv, heads.size, angles + token * heads.size);
      }
    }
    for (float &number : query) number *= query_scale;
    float *keys = arguments.output(first + KEY_POOL), *values = arguments.output(first + VALUE_POOL);
    write_cache(step, heads, key.data(), value.data(), keys, values);
    std::vector<float> attn_output(query.size());
    attend(step, heads, query.data(), keys, values, attn_output.data());
    project(OUTPUT, OUTPUT_A, attn_output.data(), all, rows, to);
  }

  // to = rows + down(activation(up(norm(rows)))), or gated.
  void mlp(Rows all, const float *rows, int64_t hidden, float *to) const {
    const std::vector<float> normed = norm(MLP_NORM_WEIGHT)(rows, all.count, hidden);
    std::vector<float> inner = projected(UP, UP_A, normed, all);
    std::vector<float> gate;
    const bool gated = arguments.shapes[first + GATE][0] > 1;
    if (gated) gate = projected(GATE, GATE_A, normed, all);
    run_on_all_threads([&](int member) {
      const Range own = part_of(inner.size(), member, thread_count(), 64);
      if (gated) gated_silu(gate.data() + own.begin, inner.data() + own.begin, own.end - own.begin);
      else gelu(inner.data() + own.begin, own.end - own.begin);
    });
    project(DOWN, DOWN_A, (gated ? gate : inner).data(), all, rows, to);
  }
};

}  // namespace

// A whole step of a network: looks up the first `counts[0]` of T tokens, of which the first `counts[2]` are prefill
// tokens, runs all layers, and returns logits [R, V] of the first `counts[1]` chosen ones. `counts[3]` tells whether
// any row uses an adapter. Without a head (a pipeline stage before the last) it returns the hidden states [T, H];
// without an embedding (a stage after the first) it takes them.
extern "C" int MindCoderStep(int inputs, void **data, int *, int64_t **shapes, const char **formats, void *, void *) {
  enum { INPUTS, MAPPING, BLOCK_TABLES, ANGLES, LOGITS_INDICES, COUNTS, SIZES, FACTORS, SHARES, TOKEN_TABLE, POSITION_TABLE,
         FINAL_WEIGHT, FINAL_BIAS, HEAD, FIRST_LAYER };
  const Arguments arguments{data, shapes, formats};
  const int32_t *sizes = arguments.ints(SIZES), *mapping = arguments.ints(MAPPING), *counts = arguments.ints(COUNTS);
  const Heads heads{sizes[0], sizes[1], sizes[2]};
  const int64_t room = shapes[MAPPING][1], count = counts[0], hidden = sizes[5];
  const Step step{count,    mapping,   mapping + room, mapping + 2 * room, arguments.ints(BLOCK_TABLES), shapes[BLOCK_TABLES][1],
                  sizes[3], sizes[4]};
  const Rows all{count, counts[2]};
  const float epsilon = arguments.floats(FACTORS)[0], query_scale = arguments.floats(FACTORS)[1];
  const float *angles = shapes[ANGLES][1] == heads.size ? arguments.floats(ANGLES) : nullptr;

  std::vector<float> rows(count * hidden), between(count * hidden);
  if (shapes[TOKEN_TABLE][0] > 1) {
    embed(arguments.numbers(TOKEN_TABLE), arguments.ints(INPUTS), count, hidden, rows.data());
    if (shapes[POSITION_TABLE][0] > 1) {
      embed(arguments.numbers(POSITION_TABLE), mapping, count, hidden, between.data());
      for (int64_t at = 0; at < count * hidden; at++) rows[at] += between[at];
    }
  } else {
    std::memcpy(rows.data(), data[INPUTS], rows.size() * sizeof(float));
  }
  const bool has_adapters = shapes[SHARES][0] > 1;
  const float *shares = has_adapters && counts[3] > 0 ? arguments.floats(SHARES) : nullptr;
  const int inputs_of_a_layer = has_adapters ? DOWN_B + 1 : QUERY_A;
  for (int first = FIRST_LAYER; first + inputs_of_a_layer < inputs; first += inputs_of_a_layer) {
    const Layer layer{arguments, first, epsilon, shares};
    layer.attention(step, all, heads, angles, query_scale, rows.data(), hidden, between.data());
    layer.mlp(all, between.data(), hidden, rows.data());
  }
  float *result = arguments.output(inputs - 1);  // the output follows the inputs
  if (shapes[HEAD][0] == 1) {
    std::memcpy(result, rows.data(), rows.size() * sizeof(float));
    return 0;
  }
  for (int64_t row = 0; row < counts[1]; row++)
    std::memcpy(&between[row * hidden], &rows[arguments.ints(LOGITS_INDICES)[row] * hidden], hidden * sizeof(float));
  const Norm norm{arguments.numbers(FINAL_WEIGHT), arguments.optional(FINAL_BIAS), epsilon};
  Matrix head = arguments.matrix(HEAD);
  head.outputs = sizes[6];  // without the padding rows of the table
  linear(norm(between.data(), counts[1], hidden).data(), {counts[1], 0}, head, {}, nullptr, result);
  return 0;
}
