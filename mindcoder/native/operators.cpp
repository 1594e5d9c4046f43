// The operators that a MindSpore graph calls (ops.Custom, func_type "aot"). Each gets the pointers and shapes of its
// inputs and outputs, in the order of the lists in mindcoder/backend/native.py, and gives 0.
#include <cstring>
#include <string>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "rows.h"
#include "team.h"

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

  // What a layer may lack; one number stands for nothing.
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
    if (rows < team_size()) {
      work(0, rows);
    } else {
      share([&](int member) {
        const Range own = part_of(rows, member, team_size(), 1);
        work(own.begin, own.end);
      });
    }
    return normed;
  }
};

// Rows of a table of numbers.
void look_up(const Numbers &table, const int32_t *places, int64_t count, int64_t size, float *rows) {
  for (int64_t row = 0; row < count; row++) {
    for (int64_t at = 0; at < size; at++) rows[row * size + at] = number(table, places[row] * size + at);
  }
}

std::vector<float> product(const std::vector<float> &x, Rows rows, const Matrix &weight, const Numbers &bias) {
  std::vector<float> result(rows.count * weight.outputs);
  linear(x.data(), rows, weight, bias, nullptr, result.data());
  return result;
}

// One layer's inputs, counted from its first.
enum {
  NORM_WEIGHT, NORM_BIAS, QUERY, QUERY_BIAS, KEY, KEY_BIAS, VALUE, VALUE_BIAS, OUTPUT, OUTPUT_BIAS, KEY_POOL, VALUE_POOL,
  MLP_NORM_WEIGHT, MLP_NORM_BIAS, GATE, GATE_BIAS, UP, UP_BIAS, DOWN, DOWN_BIAS, INPUTS_OF_A_LAYER
};

struct Layer {
  const Arguments &arguments;
  int first;
  float epsilon;

  Numbers optional(int index) const { return arguments.optional(first + index); }
  Matrix matrix(int index) const { return arguments.matrix(first + index); }
  Norm norm(int index) const { return {arguments.numbers(first + index), optional(index + 1), epsilon}; }

  // to = rows + attention(norm(rows)), with the step's keys and values put into the cache first.
  void attention(const Step &step, Rows all, const Heads &heads, const float *angles, float query_scale, const float *rows,
                 int64_t hidden, float *to) const {
    const std::vector<float> normed = norm(NORM_WEIGHT)(rows, step.count, hidden);
    std::vector<float> query = product(normed, all, matrix(QUERY), optional(QUERY_BIAS));
    std::vector<float> key = product(normed, all, matrix(KEY), optional(KEY_BIAS));
    const std::vector<float> value = product(normed, all, matrix(VALUE), optional(VALUE_BIAS));
    if (angles != nullptr) {
      for (int64_t token = 0; token < step.count; token++) {
        rotate(query.data() + token * heads.query * heads.size, heads.query, heads.size, angles + token * heads.size);
        rotate(key.data() + token * heads.kv * heads.size, heads.kv, heads.size, angles + token * heads.size);
      }
    }
    for (float &number : query) number *= query_scale;
    float *keys = arguments.output(first + KEY_POOL), *values = arguments.output(first + VALUE_POOL);
    write_cache(step, heads, key.data(), value.data(), keys, values);
    std::vector<float> attended(query.size());
    attend(step, heads, query.data(), keys, values, attended.data());
    linear(attended.data(), all, matrix(OUTPUT), optional(OUTPUT_BIAS), rows, to);
  }

  // to = rows + down(activation(up(norm(rows)))), gated where there is a gate.
  void mlp(Rows all, const float *rows, int64_t hidden, float *to) const {
    const std::vector<float> normed = norm(MLP_NORM_WEIGHT)(rows, all.count, hidden);
    std::vector<float> inner = product(normed, all, matrix(UP), optional(UP_BIAS));
    std::vector<float> gate;
    const bool gated = arguments.shapes[first + GATE][0] > 1;
    if (gated) gate = product(normed, all, matrix(GATE), optional(GATE_BIAS));
    share([&](int member) {
      const Range own = part_of(inner.size(), member, team_size(), 64);
      if (gated) gated_silu(gate.data() + own.begin, inner.data() + own.begin, own.end - own.begin);
      else gelu(inner.data() + own.begin, own.end - own.begin);
    });
    linear((gated ? gate : inner).data(), all, matrix(DOWN), optional(DOWN_BIAS), rows, to);
  }
};

}  // namespace

// A whole step of a network: looks the first `counts[0]` of T tokens up, of which the first `counts[2]` are prompts',
// runs all layers, and gives logits [R, V] of the first `counts[1]` chosen ones. Without a head (a pipeline stage that is
// not the last) it gives the rows [T, H]; without a token table (one that is not the first) it takes them.
extern "C" int MindCoderStep(int inputs, void **data, int *, int64_t **shapes, const char **formats, void *, void *) {
  enum { INPUTS, PLACES, TABLES, ANGLES, CHOSEN, COUNTS, SIZES, FACTORS, TOKEN_TABLE, POSITION_TABLE, FINAL_WEIGHT,
         FINAL_BIAS, HEAD, FIRST_LAYER };
  const Arguments arguments{data, shapes, formats};
  const int32_t *sizes = arguments.ints(SIZES), *places = arguments.ints(PLACES), *counts = arguments.ints(COUNTS);
  const Heads heads{sizes[0], sizes[1], sizes[2]};
  const int64_t room = shapes[PLACES][1], count = counts[0], hidden = sizes[5];
  const Step step{count,    places,   places + room, places + 2 * room, arguments.ints(TABLES), shapes[TABLES][1],
                  sizes[3], sizes[4]};
  const Rows all{count, counts[2]};
  const float epsilon = arguments.floats(FACTORS)[0], query_scale = arguments.floats(FACTORS)[1];
  const float *angles = shapes[ANGLES][1] == heads.size ? arguments.floats(ANGLES) : nullptr;

  std::vector<float> rows(count * hidden), between(count * hidden);
  if (shapes[TOKEN_TABLE][0] > 1) {
    look_up(arguments.numbers(TOKEN_TABLE), arguments.ints(INPUTS), count, hidden, rows.data());
    if (shapes[POSITION_TABLE][0] > 1) {
      look_up(arguments.numbers(POSITION_TABLE), places, count, hidden, between.data());
      for (int64_t at = 0; at < count * hidden; at++) rows[at] += between[at];
    }
  } else {
    std::memcpy(rows.data(), data[INPUTS], rows.size() * sizeof(float));
  }
  for (int first = FIRST_LAYER; first + INPUTS_OF_A_LAYER < inputs; first += INPUTS_OF_A_LAYER) {
    const Layer layer{arguments, first, epsilon};
    layer.attention(step, all, heads, angles, query_scale, rows.data(), hidden, between.data());
    layer.mlp(all, between.data(), hidden, rows.data());
  }
  float *result = arguments.output(inputs - 1);  // the output follows the inputs
  if (shapes[HEAD][0] == 1) {
    std::memcpy(result, rows.data(), rows.size() * sizeof(float));
    return 0;
  }
  for (int64_t row = 0; row < counts[1]; row++)
    std::memcpy(&between[row * hidden], &rows[arguments.ints(CHOSEN)[row] * hidden], hidden * sizeof(float));
  const Norm norm{arguments.numbers(FINAL_WEIGHT), arguments.optional(FINAL_BIAS), epsilon};
  Matrix head = arguments.matrix(HEAD);
  head.outputs = sizes[6];  // without the table's padding rows
  linear(norm(between.data(), counts[1], hidden).data(), {counts[1], 0}, head, {}, nullptr, result);
  return 0;
}
