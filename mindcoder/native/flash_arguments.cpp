#include "flash_arguments.h"

#include <algorithm>
#include <cstdio>

namespace flash {

void refuse(const std::string &name, const std::string &found, const std::string &expected) {
  throw Refused(name + ": found " + found + ", expected " + expected);
}

int answer(const char *name, int found, int expected, const std::function<void()> &work) {
  try {
    if (found != expected) throw Refused(std::to_string(found) + " parameters, expected " + std::to_string(expected));
    work();
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

Axes axes_of(const Parameter &tensor, const char *name, int64_t layout, std::optional<int64_t> width) {
  if (layout < BSH || layout > TND) refuse("input_layout", std::to_string(layout), "0 to 4: BSH, BNSD, SBH, BSND or TND");
  const int expected = layout == BSH || layout == SBH || layout == TND ? 3 : 4;
  if (tensor.ndim != expected) refuse(name, "shape " + tensor.text(), std::to_string(expected) + " axes");
  const int64_t *n = tensor.shape;
  Axes axes;
  switch (layout) {
    case BSH:
    case SBH: {
      const int64_t hidden = n[2], own = width.value_or(hidden);
      if (own < 1 || hidden % own != 0) refuse(name, "shape " + tensor.text(), "a multiple of " + std::to_string(own) + " as last axis");
      axes.width = own, axes.heads = hidden / own;
      axes.batch = n[layout == SBH], axes.length = n[layout == BSH];
      axes.strides = {layout == BSH ? hidden : axes.batch * hidden, own};
      axes.sequence = layout == BSH ? axes.length * hidden : hidden;
      break;
    }
    case BNSD:
      axes = {n[0], n[2], n[1], n[3], {n[3], n[2] * n[3]}, n[1] * n[2] * n[3]};
      break;
    case BSND:
      axes = {n[0], n[1], n[2], n[3], {n[2] * n[3], n[3]}, n[1] * n[2] * n[3]};
      break;
    default:  // TND
      axes = {1, n[0], n[1], n[2], {n[1] * n[2], n[2]}, 0};
  }
  return axes;
}

namespace {

std::vector<int64_t> ends_of(const Parameter &ends, const char *name, int64_t total) {
  if (!ends.given()) refuse(name, "nothing", "the end of each sequence, for layout TND");
  if (std::strcmp(ends.dtype, "int64") != 0) refuse(name, ends.dtype, "int64");
  const int64_t *values = static_cast<const int64_t *>(ends.data);
  const std::vector<int64_t> result(values, values + ends.count());
  if (!std::is_sorted(result.begin(), result.end()) || result.front() < 0 || result.back() != total)
    refuse(name, std::to_string(result.back()) + " as last end", "rising ends up to " + std::to_string(total) + ", the number of tokens");
  return result;
}

void add_sequences(Call &call, const Axes &query, const Axes &key, const Axes &value) {
  for (int64_t batch = 0; batch < query.batch; batch++) {
    call.sequences.push_back({query.length, key.length, batch * query.sequence, batch * key.sequence, batch * value.sequence,
                              0, batch * call.heads * query.length * COPIES, batch * call.heads * query.length * key.length, 0});
  }
  call.statistics = {COPIES, query.length * COPIES};
}

void add_documents(Call &call, const Axes &query, const Axes &key, const Axes &value, const Tensors &tensors) {
  const std::vector<int64_t> q_ends = ends_of(tensors.q_ends, "actual_seq_qlen", query.length);
  const std::vector<int64_t> kv_ends = ends_of(tensors.kv_ends, "actual_seq_kvlen", key.length);
  if (q_ends.size() != kv_ends.size())
    refuse("actual_seq_kvlen", std::to_string(kv_ends.size()) + " ends", std::to_string(q_ends.size()) + ", as actual_seq_qlen");
  int64_t first = 0, first_key = 0, bit = 0;
  for (size_t index = 0; index < q_ends.size(); index++) {
    const int64_t queries = q_ends[index] - first, keys = kv_ends[index] - first_key;
    if (queries == 0 && keys == 0) continue;  // ends are repeated where there are fewer documents than a graph has room for
    call.sequences.push_back({queries, keys, first * query.strides.token, first_key * key.strides.token,
                              first_key * value.strides.token, 0, first * call.heads * COPIES, bit, 0});
    bit += call.heads * queries * keys;
    first = q_ends[index], first_key = kv_ends[index];
  }
  call.statistics = {call.heads * COPIES, COPIES};
}

// The results have the queries' layout with the values' width.
void lay_out_results(Call &call, const Axes &query, int64_t layout) {
  const auto scaled = [&](int64_t elements) { return elements / call.width * call.value_width; };
  call.out = {scaled(call.query.token), layout == BNSD ? query.length * call.value_width : call.value_width};
  for (Sequence &own : call.sequences) own.out = scaled(own.query);
}

void add_mask(Call &call, const Options &options, const Parameter &mask) {
  if (options.sparse_mode < 0 || options.sparse_mode > 4) refuse("sparse_mode", std::to_string(options.sparse_mode), "0 to 4");
  if (!mask.given()) {  // everything is visible
    if (options.sparse_mode != 0) refuse("attn_mask", "nothing", "a mask for sparse_mode " + std::to_string(options.sparse_mode));
    return;
  }
  if (std::strcmp(mask.dtype, "bool") != 0 && std::strcmp(mask.dtype, "uint8") != 0) refuse("attn_mask", mask.dtype, "bool or uint8");
  if (options.sparse_mode == 0 || options.sparse_mode == 4) call.below = options.pre_tokens, call.above = options.next_tokens;
  if (options.sparse_mode == 2 || options.sparse_mode == 3) call.above = 0;
  if (options.sparse_mode >= 3)
    for (Sequence &own : call.sequences) own.shift = own.keys - own.queries;
  if (options.sparse_mode >= 2) {  // its place alone matters, so it is not read
    if (mask.ndim != 2 || mask.shape[0] != 2048 || mask.shape[1] != 2048)
      refuse("attn_mask", "shape " + mask.text(), "[2048, 2048] for sparse_mode " + std::to_string(options.sparse_mode));
    return;
  }
  int64_t queries = 0, keys = 0;
  for (const Sequence &own : call.sequences) queries = std::max(queries, own.queries), keys = std::max(keys, own.keys);
  const int64_t batch = static_cast<int64_t>(call.sequences.size());
  const std::string expected = "[S, T], [B or 1, N or 1, S, T] with S " + std::to_string(queries) + " and T " + std::to_string(keys);
  if (mask.ndim != 2 && mask.ndim != 4) refuse("attn_mask", "shape " + mask.text(), expected);
  const int64_t *last = mask.shape + mask.ndim - 2;
  const int64_t own_batch = mask.ndim == 4 ? mask.shape[0] : 1, own_heads = mask.ndim == 4 ? mask.shape[1] : 1;
  const bool fits = (own_batch == 1 || (own_batch == batch && options.layout != TND)) && (own_heads == 1 || own_heads == call.heads);
  if (last[0] != queries || last[1] != keys || !fits) refuse("attn_mask", "shape " + mask.text(), expected);
  call.hidden_row = keys, call.hidden_head = own_heads > 1 ? queries * keys : 0;
  for (int64_t index = 0; index < batch; index++)  // of documents it is the upper left corner
    call.sequences[index].hidden = static_cast<const uint8_t *>(mask.data) + (own_batch > 1 ? index * own_heads * queries * keys : 0);
}

void add_dropout(Call &call, const Options &options, const Parameter &drop) {
  if (!drop.given()) return;
  if (!(options.keep > 0 && options.keep <= 1)) refuse("keep_prob", std::to_string(options.keep), "above 0, at most 1");
  int64_t bits = 0;
  for (const Sequence &own : call.sequences) bits += call.heads * own.queries * own.keys;
  if (drop.count() * 8 < bits) refuse("drop_mask", std::to_string(drop.count()) + " bytes", "at least " + std::to_string((bits + 7) / 8));
  call.drop = static_cast<const uint8_t *>(drop.data), call.keep = static_cast<float>(options.keep);
}

}  // namespace

int64_t Parameter::count() const {
  int64_t result = 1;
  for (int axis = 0; axis < ndim; axis++) result *= shape[axis];
  return result;
}

std::string Parameter::text() const {
  std::string result = "[";
  for (int axis = 0; axis < ndim; axis++) result += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
  return result + "]";
}

int64_t Parameters::integer(int index) const {
  const Parameter own = (*this)[index];
  if (own.data == nullptr) throw Refused("parameter " + std::to_string(index) + ": found nothing, expected an integer");
  if (std::strcmp(own.dtype, "int32") == 0) return *static_cast<const int32_t *>(own.data);
  return *static_cast<const int64_t *>(own.data);
}

double Parameters::number(int index) const {
  const Parameter own = (*this)[index];
  if (own.data == nullptr) throw Refused("parameter " + std::to_string(index) + ": found nothing, expected a number");
  if (std::strcmp(own.dtype, "float64") == 0) return *static_cast<const double *>(own.data);
  return *static_cast<const float *>(own.data);
}

Element element_of(const Parameter &parameter, const char *name) {
  const std::string dtype = parameter.dtype;
  if (dtype == "float32") return Element::float32;
  if (dtype == "float16") return Element::float16;
  if (dtype == "bfloat16") return Element::bfloat16;
  refuse(name, dtype, "float32, float16 or bfloat16");
}

void require_absent(const Parameter &parameter, const char *name) {
  if (parameter.given() && parameter.ndim > 0) refuse(name, "shape " + parameter.text(), "nothing: it is not computed here");
}

Call understand(const Options &options, const Tensors &tensors) {
  Call call;
  call.element = element_of(tensors.query, "query");
  for (const Parameter *other : {&tensors.key, &tensors.value})
    if (element_of(*other, "key or value") != call.element) refuse("key or value", other->dtype, tensors.query.dtype);
  if (!(options.scale > 0)) refuse("scale_value", std::to_string(options.scale), "a number above 0");
  if (options.heads < 1) refuse("head_num", std::to_string(options.heads), "at least 1");
  const bool flat = options.layout == BSH || options.layout == SBH;
  std::optional<int64_t> width, value_width;
  if (flat && tensors.query.ndim == 3) {
    if (tensors.query.shape[2] % options.heads != 0)
      refuse("query", "shape " + tensors.query.text(), "a multiple of head_num " + std::to_string(options.heads) + " as last axis");
    width = tensors.query.shape[2] / options.heads;
  }
  const Axes query = axes_of(tensors.query, "query", options.layout, width);
  const Axes key = axes_of(tensors.key, "key", options.layout, width);
  if (flat && tensors.value.ndim == 3) value_width = std::max<int64_t>(tensors.value.shape[2] / std::max<int64_t>(key.heads, 1), 1);
  const Axes value = axes_of(tensors.value, "value", options.layout, value_width);
  if (query.heads != options.heads) refuse("head_num", std::to_string(options.heads), "the query's heads in " + tensors.query.text());
  if (key.heads < 1 || query.heads % key.heads != 0) refuse("key", std::to_string(key.heads) + " heads", "a divisor of " + std::to_string(query.heads));
  if (key.width != query.width || key.batch != query.batch) refuse("key", "shape " + tensors.key.text(), "batch and head dimension of query " + tensors.query.text());
  if (value.heads != key.heads || value.batch != key.batch || value.length != key.length)
    refuse("value", "shape " + tensors.value.text(), "that of key " + tensors.key.text() + " but for the head dimension");
  call.heads = query.heads, call.kv_heads = key.heads, call.width = query.width, call.value_width = value.width;
  call.scale = static_cast<float>(options.scale);
  call.query = query.strides, call.key = key.strides, call.value = value.strides;
  if (options.layout == TND) add_documents(call, query, key, value, tensors);
  else add_sequences(call, query, key, value);
  lay_out_results(call, query, options.layout);
  add_mask(call, options, tensors.mask);
  add_dropout(call, options, tensors.drop);
  return call;
}

}  // namespace flash
