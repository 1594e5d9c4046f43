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

std::vector<float> product(const std::vector<float> &x, int64_t rows, const Matrix &weight, const Numbers &bias) {
  std::vector<float> result(rows * weight.outputs);
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
  void attention(const Step &step, const Heads &heads, const float *angles, float query_scale, const float *rows,
                 int64_t hidden, float *to) const {
    const std::vector<float> normed = norm(NORM_WEIGHT)(rows, step.count, hidden);
    std::vector<float> query = product(normed, step.count, matrix(QUERY), optional(QUERY_BIAS));
    std::vector<float> key = product(normed, step.count, matrix(KEY), optional(KEY_BIAS));
    const std::vector<float> value = product(normed, step.count, matrix(VALUE), optional(VALUE_BIAS));
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
    linear(attended.data(), step.count, matrix(OUTPUT), optional(OUTPUT_BIAS), rows, to);
  }

  // to = rows + down(activation(up(norm(rows)))), gated where there is a gate.
  void mlp(int64_t count, const float *rows, int64_t hidden, float *to) const {
    const std::vector<float> normed = norm(MLP_NORM_WEIGHT)(rows, count, hidden);
    std::vector<float> inner = product(normed, count, matrix(UP), optional(UP_BIAS));
    std::vector<float> gate;
    const bool gated = arguments.shapes[first + GATE][0] > 1;
    if (gated) gate = product(normed, count, matrix(GATE), optional(GATE_BIAS));
    share([&](int member) {
      const Range own = part_of(inner.size(), member, team_size(), 64);
      if (gated) gated_silu(gate.data() + own.begin, inner.data() + own.begin, own.end - own.begin);
      else gelu(inner.data() + own.begin, own.end - own.begin);
    });
    linear((gated ? gate : inner).data(), count, matrix(DOWN), optional(DOWN_BIAS), rows, to);
  }
};

}  // namespace

// All layers of a stage, one after the other: rows [T, H] of which the first `counts[0]` are computed.
extern "C" int MindCoderLayers(int inputs, void **data, int *, int64_t **shapes, const char **formats, void *, void *) {
  enum { ROWS, PLACES, TABLES, ANGLES, COUNTS, SIZES, FACTORS, FIRST_LAYER };
  const Arguments arguments{data, shapes, formats};
  const int32_t *sizes = arguments.ints(SIZES), *places = arguments.ints(PLACES);
  const Heads heads{sizes[0], sizes[1], sizes[2]};
  const int64_t room = shapes[PLACES][1], count = arguments.ints(COUNTS)[0], hidden = shapes[ROWS][1];
  const Step step{count,    places,   places + room, places + 2 * room, arguments.ints(TABLES), shapes[TABLES][1],
                  sizes[3], sizes[4]};
  const float epsilon = arguments.floats(FACTORS)[0], query_scale = arguments.floats(FACTORS)[1];
  const float *angles = shapes[ANGLES][1] == heads.size ? arguments.floats(ANGLES) : nullptr;

  float *result = arguments.output(inputs - 1);  // the output follows the inputs
  std::memcpy(result, arguments.floats(ROWS), count * hidden * sizeof(float));
  std::vector<float> between(count * hidden);
  for (int first = FIRST_LAYER; first + INPUTS_OF_A_LAYER < inputs; first += INPUTS_OF_A_LAYER) {
    const Layer layer{arguments, first, epsilon};
    layer.attention(step, heads, angles, query_scale, result, hidden, between.data());
    layer.mlp(count, between.data(), hidden, result);
  }
  return 0;
}

// Logits of the chosen rows: head(norm(rows[chosen])).
extern "C" int MindCoderHead(int, void **data, int *, int64_t **shapes, const char **formats, void *, void *) {
  enum { ROWS, WEIGHT, BIAS, HEAD, CHOSEN, COUNTS, FACTORS, RESULT };
  const Arguments arguments{data, shapes, formats};
  const int64_t chosen = arguments.ints(COUNTS)[1], hidden = shapes[ROWS][1];
  std::vector<float> rows(chosen * hidden);
  for (int64_t row = 0; row < chosen; row++)
    std::memcpy(rows.data() + row * hidden, arguments.floats(ROWS) + arguments.ints(CHOSEN)[row] * hidden, hidden * 4);
  const Norm norm{arguments.numbers(WEIGHT), arguments.optional(BIAS), arguments.floats(FACTORS)[0]};
  Matrix head = arguments.matrix(HEAD);
  head.outputs = shapes[RESULT][1];  // without the table's padding rows
  const std::vector<float> normed = norm(rows.data(), chosen, hidden);
  linear(normed.data(), chosen, head, {}, nullptr, arguments.output(RESULT));
  return 0;
}
