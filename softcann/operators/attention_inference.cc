// Attention without gradient: prompts, single tokens, and both with a paged key-value cache. float16 and bfloat16 alone, as
// documented; quantisation, shifts, left padding and shared prefixes are refused: nothing here computes them.
#include <memory>

#include "attention.h"

namespace softcann {
namespace {

struct Options {
  const Tensor* query = nullptr;
  std::vector<const Tensor*> keys, values;  // one, or one for each sequence
  Mask mask;
  const IntArray *q_lengths = nullptr, *kv_lengths = nullptr;
  const Tensor* block_table = nullptr;
  int64_t block_size = 0, heads = 0, kv_heads = 0;
  double scale = 1;
  std::string layout, out_layout;
  bool single = false;  // one query a sequence: masks have no axis of queries
};

void refuse_given(std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors)
    if (tensor && tensor->count()) refuse("quantisation, shift, padding or prefix", text(tensor->shape), "null, all that softcann computes");
}

std::string layout_of(char* layout) {
  require_given(layout, "inputLayout");
  return layout;
}

const Tensor* given(const Tensor* tensor) { return tensor && tensor->count() ? tensor : nullptr; }

// Length of sequence b: one number for all, or one each; no array means all of them.
int64_t length_of(const IntArray* lengths, int64_t b, int64_t all) {
  if (!lengths || lengths->size() == 0) return all;
  return (*lengths)[lengths->size() == 1 ? 0 : static_cast<size_t>(b)];
}

void require_lengths(const IntArray* lengths, const char* name, int64_t batch, int64_t most) {
  if (!lengths || lengths->size() == 0) return;
  if (lengths->size() != 1 && static_cast<int64_t>(lengths->size()) < batch)
    refuse(name, std::to_string(lengths->size()) + " numbers", "1, or one for each of " + std::to_string(batch) + " sequences");
  for (int64_t b = 0; b < batch; ++b)
    if (length_of(lengths, b, 0) < 0 || length_of(lengths, b, 0) > most)
      refuse(name, text(lengths->values), "0 to " + std::to_string(most));
}

// (B, N, S, D) of the query and, without pages, of the keys.
Heads sizes(Options& o) {
  const Tensor* query = o.query;
  o.out_layout = o.layout == "BNSD_BSND" ? "BSND" : o.layout;
  if (o.layout == "BNSD_BSND") o.layout = "BNSD";
  if (o.layout != "BSH" && o.layout != "BSND" && o.layout != "BNSD")
    refuse("inputLayout", "\"" + o.layout + "\"", "\"BSH\", \"BSND\", \"BNSD\" or \"BNSD_BSND\", all that softcann computes");
  require_rank(query, "query", o.layout == "BSH" ? 3 : 4, o.layout == "BSH" ? 3 : 4);
  if (o.heads < 1 || o.heads > 256) refuse("numHeads", std::to_string(o.heads), "1 to 256");
  if (o.kv_heads == 0) o.kv_heads = o.heads;
  if (o.kv_heads < 0 || o.heads % o.kv_heads || o.heads / o.kv_heads > 64)
    refuse("numKeyValueHeads", std::to_string(o.kv_heads), "a divisor of numHeads " + std::to_string(o.heads) + ", at least a 64th of it");
  if (o.layout == "BSH" && query->dim(2) % o.heads) refuse("query", text(query->shape), "a multiple of numHeads as last axis");
  const View q = headed(query, o.layout, o.heads);
  if (q.shape[1] != o.heads) refuse("numHeads", std::to_string(o.heads), "the query's heads in " + text(query->shape));
  Heads h{q.shape[0], o.heads, o.kv_heads, q.shape[2], 0, q.shape[3], q.shape[3]};
  if (h.width > 512) refuse("query", "head dimension " + std::to_string(h.width), "at most 512");
  return h;
}

void require_dense(const Options& o, Heads& h) {
  const auto several = static_cast<int64_t>(o.keys.size());
  if (several != 1 && several != h.batch) refuse("key", std::to_string(several) + " tensors", "one, or one for each of " + std::to_string(h.batch) + " sequences");
  if (o.values.size() != o.keys.size()) refuse("value", std::to_string(o.values.size()) + " tensors", "as many as keys");
  for (int64_t i = 0; i < several; ++i) {
    const Tensor *key = o.keys[i], *value = o.values[i];
    require_same_dtype(key, "key", o.query, "query");
    require_same_dtype(value, "value", o.query, "query");
    require_rank(key, "key", o.query->rank(), o.query->rank());
    require_shape(value, "value", key->shape);
    if (o.layout == "BSH" && key->dim(2) != h.width * h.kv_heads)
      refuse("key", text(key->shape), std::to_string(h.kv_heads) + " heads of " + std::to_string(h.width) + " as last axis");
    const View k = headed(key, o.layout, h.kv_heads);
    if (k.shape[1] != h.kv_heads || k.shape[3] != h.width || k.shape[0] != (several == 1 ? h.batch : 1))
      refuse("key", text(key->shape), "the batch, heads and head dimension of query " + text(o.query->shape) + " with " + std::to_string(h.kv_heads) + " key heads");
    h.kv_length = std::max(h.kv_length, k.shape[2]);
  }
}

// The cache is (blocks, block size, heads * width), or (blocks, heads, block size, width) beside a BNSD query.
void require_paged(const Options& o, Heads& h) {
  if (o.keys.size() != 1 || o.values.size() != 1) refuse("key", std::to_string(o.keys.size()) + " tensors", "one cache with a block table");
  const Tensor *key = o.keys[0], *value = o.values[0], *table = o.block_table;
  require_same_dtype(key, "key", o.query, "query");
  require_same_dtype(value, "value", o.query, "query");
  // One query a sequence: the pages say "not 0, at most 512"; multiples of 16 are unverified.
  const int64_t multiple = h.q_length == 1 ? 16 : 128;
  if (o.block_size <= 0 || o.block_size > 512 || o.block_size % multiple)
    refuse("blockSize", std::to_string(o.block_size), "a multiple of " + std::to_string(multiple) + ", at most 512");
  const int64_t width = h.kv_heads * h.width;
  if (key->rank() == 3) {
    require_shape(key, "key", {key->dim(0), o.block_size, width});
    if (width > 65535) refuse("key", text(key->shape), "at most 65535 as last axis");
  } else if (o.layout == "BNSD") {
    require_shape(key, "key", {key->dim(0), h.kv_heads, o.block_size, h.width});
  } else {
    refuse("key", text(key->shape), "(blocks, block size, heads * width) beside a query in layout " + o.layout);
  }
  require_shape(value, "value", key->shape);
  require_rank(table, "blockTable", 2, 2);
  if (table->dim(0) != h.batch) refuse("blockTable", text(table->shape), "a row for each of " + std::to_string(h.batch) + " sequences");
  if (!o.kv_lengths || o.kv_lengths->size() == 0) require_given(nullptr, "actualSeqLengthsKv, required beside a block table,");
  h.kv_length = table->dim(1) * o.block_size;
}

// Keys or values of one sequence as (heads, length, width).
std::vector<float> sequence(const Options& o, const Heads& h, const std::vector<const Tensor*>& list, int64_t b, int64_t length) {
  std::vector<float> result(h.kv_heads * length * h.width);
  const auto append = [&](View view, int64_t start, int64_t rows) {  // view: (heads, rows, width)
    view.shape[1] = rows;
    const auto values = read<float>(&view, view.shape);
    for (int64_t n = 0; n < h.kv_heads; ++n)
      std::copy_n(values.data() + n * rows * h.width, rows * h.width, result.data() + (n * length + start) * h.width);
  };
  if (!o.block_table) {
    View view = headed(list.size() == 1 ? list[0] : list[b], o.layout, h.kv_heads);
    if (list.size() == 1) view.offset += b * view.strides[0];
    view.shape.erase(view.shape.begin()), view.strides.erase(view.strides.begin());
    append(view, 0, length);
    return result;
  }
  const auto table = read<int64_t>(o.block_table);
  for (int64_t start = 0; start < length; start += o.block_size) {
    const int64_t block = table[b * o.block_table->dim(1) + start / o.block_size];
    if (block < 0 || block >= list[0]->dim(0))
      throw std::runtime_error("blockTable: the block table names block " + std::to_string(block) + " for sequence " + std::to_string(b) +
                               ", the cache has " + std::to_string(list[0]->dim(0)));
    View view(list[0]);
    const Shape s = view.strides;
    view.offset += block * s[0];
    if (view.rank() == 3)
      view.strides = {h.width * s[2], s[1], s[2]};
    else
      view.strides = {s[1], s[2], s[3]};
    view.shape = {h.kv_heads, o.block_size, h.width};
    append(view, start, std::min(o.block_size, length - start));
  }
  return result;
}

// Where the mask hides: the values of modes 0 and 1, and the band of the others from the corner of the actual lengths.
std::vector<uint8_t> hidden_keys(const Options& o, const Values<int64_t>* values, const Heads& h, int64_t at, int64_t rows, int64_t columns) {
  std::vector<uint8_t> hidden(rows * columns);
  const Band band = o.mask.band(rows, columns);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      hidden[i * columns + j] = (values && (*values)[at + i * h.kv_length + j]) || (!o.single && !band.sees(i, j));
  return hidden;
}

Launch infer(Options o, const char* mask_name, Tensor* out, Tensor* lse) {
  Heads h = sizes(o);
  o.single = o.single || h.q_length == 1;
  if (o.block_table)
    require_paged(o, h);
  else
    require_dense(o, h);
  require_lengths(o.kv_lengths, "actualSeqLengthsKv", h.batch, h.kv_length);
  if (!o.single) require_lengths(o.q_lengths, "actualSeqLengths", h.batch, h.q_length);
  const int64_t b = h.batch, rows = h.q_length, columns = h.kv_length;
  if (o.single) {
    o.mask.mode = 0;
    require_mask(o.mask, mask_name, {{b, columns}, {b, 1, columns}, {b, 1, 1, columns}}, false);
  } else {
    require_mask(o.mask, mask_name, {{rows, columns}, {1, rows, columns}, {b, rows, columns}, {1, 1, rows, columns}, {b, 1, rows, columns}}, false);
  }
  Shape expected = o.query->shape;
  if (o.out_layout != o.layout) std::swap(expected[1], expected[2]);
  require_shape(out, "attentionOut", expected);
  require_same_dtype(out, "attentionOut", o.query, "query");
  if (lse) require_shape(lse, "softmaxLse", {b, h.heads, rows, 1});
  return launch([=] {
    check_compressed(o.mask);
    const View q_view = headed(o.query, o.layout, h.heads);
    const auto q = read<float>(&q_view, q_view.shape);
    std::unique_ptr<Values<int64_t>> mask;
    if (o.mask.tensor && !o.mask.compressed()) {
      View view(o.mask.tensor);
      if (o.single && view.rank() < 4) {  // (B, S) and (B, 1, S): put the axes of heads and queries before the keys
        const int64_t stride = view.strides[0];
        view.shape = {b, 1, 1, columns}, view.strides = {stride, 0, 0, view.strides.back()};
      } else if (view.rank() == 3) {
        view.shape.insert(view.shape.begin() + 1, 1), view.strides.insert(view.strides.begin() + 1, 0);
      }
      mask = std::make_unique<Values<int64_t>>(read<int64_t>(&view, Shape{b, 1, rows, columns}));
    }
    std::vector<float> y(b * h.heads * rows * h.width, 0.0f), sums(b * h.heads * rows, INFINITY);
    for (int64_t s = 0; s < b; ++s) {
      const int64_t queries = o.single ? rows : length_of(o.q_lengths, s, rows), keys = length_of(o.kv_lengths, s, columns);
      if (queries == 0 || keys == 0) continue;  // rows past the actual length stay 0
      const auto k = sequence(o, h, o.keys, s, keys), v = sequence(o, h, o.values, s, keys);
      const auto hidden = hidden_keys(o, mask.get(), h, s * rows * columns, queries, keys);
      std::vector<float> largest(queries), sum(queries);
      for (int64_t n = 0; n < h.heads; ++n) {
        const int64_t at = (s * h.heads + n) * rows, kv = n / (h.heads / h.kv_heads) * keys * h.width;
        attend(Head{q.data() + at * h.width, k.data() + kv, v.data() + kv, queries, keys, h.width, h.width, static_cast<float>(o.scale),
                    hidden.data(), nullptr},
               y.data() + at * h.width, largest.data(), sum.data());
        for (int64_t i = 0; i < queries; ++i) sums[at + i] = sum[i] == 0 ? INFINITY : largest[i] + std::log(sum[i]);
      }
    }
    View out_view = headed(out, o.out_layout, h.heads);
    write(static_cast<Tensor*>(&out_view), y.data());
    if (lse) write(lse, sums);
  });
}

}  // namespace
}  // namespace softcann

ACLNN(aclnnPromptFlashAttentionV3, const Tensor* query, const Tensor* key, const Tensor* value, const Tensor* pseShift,
      const Tensor* attenMask, const IntArray* actualSeqLengths, const IntArray* actualSeqLengthsKv, const Tensor* deqScale1,
      const Tensor* quantScale1, const Tensor* deqScale2, const Tensor* quantScale2, const Tensor* quantOffset2, int64_t numHeads,
      double scaleValue, int64_t preTokens, int64_t nextTokens, char* inputLayout, int64_t numKeyValueHeads, int64_t sparseMode,
      int64_t innerPrecise, Tensor* attentionOut) {
  DOCUMENTED(aclnnPromptFlashAttentionV3, query, key, value, attenMask, attentionOut);
  refuse_given({pseShift, deqScale1, quantScale1, deqScale2, quantScale2, quantOffset2});
  if (innerPrecise < 0 || innerPrecise > 3) refuse("innerPrecise", std::to_string(innerPrecise), "0 to 3");
  Options o;
  o.query = query, o.keys = {key}, o.values = {value}, o.mask = {given(attenMask), sparseMode, preTokens, nextTokens};
  o.q_lengths = actualSeqLengths, o.kv_lengths = actualSeqLengthsKv, o.heads = numHeads, o.kv_heads = numKeyValueHeads;
  o.scale = scaleValue, o.layout = layout_of(inputLayout);
  return infer(o, "attenMask", attentionOut, nullptr);
}

ACLNN(aclnnIncreFlashAttentionV4, const Tensor* query, const TensorList* key, const TensorList* value, const Tensor* pseShift,
      const Tensor* attenMask, const IntArray* actualSeqLengths, const Tensor* dequantScale1, const Tensor* quantScale1,
      const Tensor* dequantScale2, const Tensor* quantScale2, const Tensor* quantOffset2, const Tensor* antiquantScale,
      const Tensor* antiquantOffset, const Tensor* blocktable, const Tensor* kvPaddingSize, int64_t numHeads, double scaleValue,
      char* inputLayout, int64_t numKeyValueHeads, int64_t blockSize, int64_t innerPrecise, Tensor* attentionOut) {
  documented_each("aclnnIncreFlashAttentionV4", "key", key);
  documented_each("aclnnIncreFlashAttentionV4", "value", value);
  DOCUMENTED(aclnnIncreFlashAttentionV4, query, attenMask, blocktable, attentionOut);
  refuse_given({pseShift, dequantScale1, quantScale1, dequantScale2, quantScale2, quantOffset2, antiquantScale, antiquantOffset, kvPaddingSize});
  if (innerPrecise != 0 && innerPrecise != 1) refuse("innerPrecise", std::to_string(innerPrecise), "0 or 1");
  Options o;
  o.query = query, o.keys.assign(key->tensors.begin(), key->tensors.end()), o.values.assign(value->tensors.begin(), value->tensors.end());
  o.mask.tensor = given(attenMask), o.kv_lengths = actualSeqLengths, o.block_table = given(blocktable), o.block_size = blockSize;
  o.heads = numHeads, o.kv_heads = numKeyValueHeads, o.scale = scaleValue, o.layout = layout_of(inputLayout), o.single = true;
  if (o.layout == "BNSD_BSND") refuse("inputLayout", "\"BNSD_BSND\"", "\"BSH\", \"BSND\" or \"BNSD\"");
  const int64_t length = query->rank() == 4 && o.layout == "BNSD" ? query->dim(2) : query->dim(1);
  if (length != 1) refuse("query", text(query->shape), "one query a sequence");
  return infer(o, "attenMask", attentionOut, nullptr);
}

ACLNN(aclnnFusedInferAttentionScoreV2, const Tensor* query, const TensorList* key, const TensorList* value,
      const Tensor* pseShiftOptional, const Tensor* attenMaskOptional, const IntArray* actualSeqLengthsOptional,
      const IntArray* actualSeqLengthsKvOptional, const Tensor* deqScale1Optional, const Tensor* quantScale1Optional,
      const Tensor* deqScale2Optional, const Tensor* quantScale2Optional, const Tensor* quantOffset2Optional,
      const Tensor* antiquantScaleOptional, const Tensor* antiquantOffsetOptional, const Tensor* blockTableOptional,
      const Tensor* queryPaddingSizeOptional, const Tensor* kvPaddingSizeOptional, const Tensor* keyAntiquantScaleOptional,
      const Tensor* keyAntiquantOffsetOptional, const Tensor* valueAntiquantScaleOptional, const Tensor* valueAntiquantOffsetOptional,
      const Tensor* keySharedPrefixOptional, const Tensor* valueSharedPrefixOptional, const IntArray* actualSharedPrefixLenOptional,
      int64_t numHeads, double scaleValue, int64_t preTokens, int64_t nextTokens, char* inputLayout, int64_t numKeyValueHeads,
      int64_t sparseMode, int64_t innerPrecise, int64_t blockSize, int64_t antiquantMode, bool softmaxLseFlag,
      int64_t keyAntiquantMode, int64_t valueAntiquantMode, Tensor* attentionOut, Tensor* softmaxLse) {
  (void)antiquantMode, (void)keyAntiquantMode, (void)valueAntiquantMode, (void)actualSharedPrefixLenOptional;
  documented_each("aclnnFusedInferAttentionScoreV2", "key", key);
  documented_each("aclnnFusedInferAttentionScoreV2", "value", value);
  DOCUMENTED(aclnnFusedInferAttentionScoreV2, query, attenMaskOptional, attentionOut);
  refuse_given({pseShiftOptional, deqScale1Optional, quantScale1Optional, deqScale2Optional, quantScale2Optional, quantOffset2Optional,
                antiquantScaleOptional, antiquantOffsetOptional, queryPaddingSizeOptional, kvPaddingSizeOptional, keyAntiquantScaleOptional,
                keyAntiquantOffsetOptional, valueAntiquantScaleOptional, valueAntiquantOffsetOptional, keySharedPrefixOptional,
                valueSharedPrefixOptional});
  if (innerPrecise < 0 || innerPrecise > 3) refuse("innerPrecise", std::to_string(innerPrecise), "0 to 3");
  if (softmaxLseFlag) require(softmaxLse, "softmaxLse", kFloat32);
  Options o;
  o.query = query, o.keys.assign(key->tensors.begin(), key->tensors.end()), o.values.assign(value->tensors.begin(), value->tensors.end());
  o.mask = {given(attenMaskOptional), sparseMode, preTokens, nextTokens};
  o.q_lengths = actualSeqLengthsOptional, o.kv_lengths = actualSeqLengthsKvOptional, o.block_table = given(blockTableOptional);
  o.block_size = blockSize, o.heads = numHeads, o.kv_heads = numKeyValueHeads, o.scale = scaleValue, o.layout = layout_of(inputLayout);
  if (o.block_table) require(o.block_table, "blockTableOptional", kInt32);
  return infer(o, "attenMaskOptional", attentionOut, softmaxLseFlag ? softmaxLse : nullptr);
}
