// IncreFlashAttention and FusedInferAttentionScore as `ops.Custom` would call them: one query a sequence and prompts, with
// dense keys and values or a paged cache. CANN's pages: aclnnIncreFlashAttentionV4, aclnnFusedInferAttentionScoreV2;
// float32 is taken too. Shifts, quantization, padding sizes, shared prefixes and lists of several keys are refused.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "flash_arguments.h"
#include "flash_cached.h"

namespace {

using namespace flash;

struct Inference {
  Options options;  // `heads`, `scale`, `layout`, and for prompts `sparse_mode` and tokens
  int64_t kv_heads, block_size;
  Parameter query, key, value, mask, q_lengths, kv_lengths, table, out, logarithms;
};

// Length of each sequence: one number for all or one each, nothing for `most`.
std::vector<int64_t> lengths_of(const Parameter &lengths, const char *name, int64_t batch, int64_t most) {
  if (!lengths.given()) return std::vector<int64_t>(batch, most);
  const bool narrow = std::strcmp(lengths.dtype, "int32") == 0;
  if (!narrow && std::strcmp(lengths.dtype, "int64") != 0) refuse(name, lengths.dtype, "int64 or int32");
  if (lengths.count() != 1 && lengths.count() < batch)
    refuse(name, std::to_string(lengths.count()) + " numbers", "1, or one for each of " + std::to_string(batch) + " sequences");
  std::vector<int64_t> result;
  for (int64_t index = 0; index < batch; index++) {
    const int64_t at = lengths.count() == 1 ? 0 : index;
    result.push_back(narrow ? static_cast<const int32_t *>(lengths.data)[at] : static_cast<const int64_t *>(lengths.data)[at]);
    if (result.back() < 0 || result.back() > most)
      refuse(name, std::to_string(result.back()), "0 to " + std::to_string(most));
  }
  return result;
}

Axes query_axes(const Inference &call) {
  const Options &options = call.options;
  if (options.heads < 1) refuse("num_heads", std::to_string(options.heads), "at least 1");
  if (!(options.scale > 0)) refuse("scale_value", std::to_string(options.scale), "a number above 0");
  if (options.layout != BSH && options.layout != BNSD && options.layout != BSND)
    refuse("input_layout", std::to_string(options.layout), "0, 1, 3 or 8: BSH, BNSD, BSND or BNSD_BSND");
  std::optional<int64_t> width;
  if (options.layout == BSH && call.query.ndim == 3) {
    if (call.query.shape[2] % options.heads != 0)
      refuse("query", "shape " + call.query.text(), "a multiple of num_heads " + std::to_string(options.heads) + " as last axis");
    width = call.query.shape[2] / options.heads;
  }
  const Axes query = axes_of(call.query, "query", options.layout, width);
  if (query.heads != options.heads) refuse("num_heads", std::to_string(options.heads), "the query's heads in " + call.query.text());
  return query;
}

// The cache [blocks, block size, K * D], which may come as [tokens, K * D], or [blocks, K, block size, D] beside a query in
// layout BNSD.
struct Pages {
  Strides strides;
  int64_t block, blocks, columns;  // elements of a block, blocks in the cache, blocks of a row of the table
};

Pages pages_of(const Inference &call, const Axes &query, int64_t kv_heads) {
  const Parameter &key = call.key, &table = call.table;
  const int64_t size = call.block_size, width = query.width;
  if (size < 1) refuse("block_size", std::to_string(size), "the tokens of a block");
  const bool rows = key.ndim == 2 && key.shape[0] % size == 0 && key.shape[1] == kv_heads * width;
  const bool flat = rows || (key.ndim == 3 && key.shape[1] == size && key.shape[2] == kv_heads * width);
  const bool by_head = key.ndim == 4 && call.options.layout == BNSD && key.shape[1] == kv_heads && key.shape[2] == size && key.shape[3] == width;
  if (!flat && !by_head)
    refuse("key", "shape " + key.text(), "[blocks, " + std::to_string(size) + ", " + std::to_string(kv_heads * width) + "]");
  if (std::strcmp(table.dtype, "int32") != 0) refuse("block_table", table.dtype, "int32");
  if (table.ndim != 2 || table.shape[0] != query.batch)
    refuse("block_table", "shape " + table.text(), "a row for each of " + std::to_string(query.batch) + " sequences");
  if (!call.kv_lengths.given()) refuse("actual_seq_lengths", "nothing", "the length of each sequence, beside a block table");
  const Strides strides = flat ? Strides{kv_heads * width, width} : Strides{width, size * width};
  return {strides, size * kv_heads * width, rows ? key.shape[0] / size : key.shape[0], table.shape[1]};
}

// The blocks of a sequence of `length` tokens.
const int32_t *blocks_of(const Inference &call, const Pages &pages, int64_t sequence, int64_t length) {
  const int32_t *table = static_cast<const int32_t *>(call.table.data) + sequence * pages.columns;
  for (int64_t block = 0; block * call.block_size < length; block++)
    if (table[block] < 0 || table[block] >= pages.blocks)
      refuse("block_table", std::to_string(table[block]), "a block below " + std::to_string(pages.blocks));
  return table;
}

// One query a sequence.
void attend_single(const Inference &call, const Axes &query, const Strides &out_strides) {
  CachedCall own{element_of(call.query, "query"), query.heads, call.kv_heads > 0 ? call.kv_heads : query.heads, query.width,
                 query.strides.head, out_strides.head, static_cast<float>(call.options.scale), {}};
  if (query.heads % own.kv_heads != 0) refuse("num_key_value_heads", std::to_string(own.kv_heads), "a divisor of " + std::to_string(query.heads));
  const bool paged = call.table.given();
  Pages pages{};
  Axes keys{};
  int64_t most;
  if (paged) {
    pages = pages_of(call, query, own.kv_heads);
    most = pages.columns * call.block_size;
  } else {
    keys = axes_of(call.key, "key", call.options.layout, query.width);
    if (keys.batch != query.batch || keys.heads != own.kv_heads || keys.width != query.width)
      refuse("key", "shape " + call.key.text(), "the batch and head dimension of query " + call.query.text() + " with " + std::to_string(own.kv_heads) + " heads");
    most = keys.length;
  }
  const Parameter &mask = call.mask;
  if (mask.given()) {
    if (std::strcmp(mask.dtype, "bool") != 0 && std::strcmp(mask.dtype, "uint8") != 0 && std::strcmp(mask.dtype, "int8") != 0)
      refuse("attn_mask", mask.dtype, "bool, uint8 or int8");
    if (mask.count() != query.batch * most || mask.shape[0] != query.batch)
      refuse("attn_mask", "shape " + mask.text(), "[" + std::to_string(query.batch) + ", " + std::to_string(most) + "]");
  }
  const std::vector<int64_t> lengths = lengths_of(call.kv_lengths, "actual_seq_lengths", query.batch, most);
  for (int64_t index = 0; index < query.batch; index++) {
    CachedSequence sequence{lengths[index], index * query.sequence, index * query.sequence, {}, {}, nullptr};
    if (paged) {
      const int32_t *table = blocks_of(call, pages, index, lengths[index]);
      sequence.key = {call.key.data, 0, pages.strides, table, call.block_size, pages.block};
    } else {
      sequence.key = {call.key.data, index * keys.sequence, keys.strides};
    }
    sequence.value = sequence.key, sequence.value.data = call.value.data;
    if (mask.given()) sequence.hidden = static_cast<const uint8_t *>(mask.data) + index * most;
    own.sequences.push_back(sequence);
  }
  attend_cached(own, call.query.data, call.out.data, static_cast<float *>(call.logarithms.data));
}

// Prompts: the queries of a sequence are its last ones.
void attend_prompts(const Inference &call, const Axes &query, const Strides &out_strides) {
  const bool paged = call.table.given();
  Parameter key = call.key, value = call.value;
  Pages pages{};
  int64_t dense[4];
  if (paged) {  // for the checks, as if the blocks of each sequence were behind each other
    const int64_t kv_heads = call.kv_heads > 0 ? call.kv_heads : query.heads;
    pages = pages_of(call, query, kv_heads);
    const int64_t most = pages.columns * call.block_size;
    const std::vector<int64_t> axes = call.options.layout == BSH    ? std::vector<int64_t>{query.batch, most, kv_heads * query.width}
                                      : call.options.layout == BNSD ? std::vector<int64_t>{query.batch, kv_heads, most, query.width}
                                                                    : std::vector<int64_t>{query.batch, most, kv_heads, query.width};
    std::copy(axes.begin(), axes.end(), dense);
    key.ndim = value.ndim = static_cast<int>(axes.size()), key.shape = value.shape = dense;
  }
  int64_t shape[4] = {1, 1, 0, 0};
  Parameter mask = call.mask;
  if (mask.given() && mask.ndim == 3) {
    shape[0] = mask.shape[0], shape[2] = mask.shape[1], shape[3] = mask.shape[2];
    mask.ndim = 4, mask.shape = shape;
  }
  if (mask.given() && std::strcmp(mask.dtype, "int8") == 0) mask.dtype = "uint8";
  Call own = understand(call.options, {call.query, key, value, {}, mask, {}, {}});
  if (call.kv_heads > 0 && own.kv_heads != call.kv_heads)
    refuse("num_key_value_heads", std::to_string(call.kv_heads), "the key's, " + std::to_string(own.kv_heads));
  const int64_t keys = own.sequences.front().keys;
  const std::vector<int64_t> q_lengths = lengths_of(call.q_lengths, "actual_seq_lengths", query.batch, query.length);
  const std::vector<int64_t> kv_lengths = lengths_of(call.kv_lengths, "actual_seq_lengths_kv", query.batch, keys);
  for (int64_t index = 0; index < query.batch; index++) {
    Sequence &sequence = own.sequences[index];
    sequence.queries = q_lengths[index], sequence.keys = kv_lengths[index];
    if (call.options.sparse_mode >= 3) sequence.shift = sequence.keys - sequence.queries;
    if (paged) sequence.key = sequence.value = 0, sequence.table = blocks_of(call, pages, index, sequence.keys);
  }
  if (paged) own.key = own.value = pages.strides, own.block_size = call.block_size, own.block = pages.block;
  own.out = out_strides;
  const int64_t rows = query.batch * query.heads * query.length;
  std::memset(call.out.data, 0, rows * query.width * bytes_of(own.element));  // what is past the lengths
  std::vector<float> largest, sums;
  if (call.logarithms.data != nullptr) largest.resize(rows * COPIES), sums.resize(rows * COPIES);
  attend(own, {call.query.data, call.key.data, call.value.data},
         {call.out.data, largest.empty() ? nullptr : largest.data(), sums.empty() ? nullptr : sums.data()});
  for (int64_t row = 0; row * COPIES < static_cast<int64_t>(sums.size()); row++)
    static_cast<float *>(call.logarithms.data)[row] = sums[row * COPIES] > 0 ? largest[row * COPIES] + std::log(sums[row * COPIES]) : INFINITY;
}

void infer(Inference call) {
  const bool turned = call.options.layout == BNSD_BSND;
  if (turned) call.options.layout = BNSD;
  for (const Parameter *other : {&call.key, &call.value})
    if (element_of(*other, "key or value") != element_of(call.query, "query")) refuse("key or value", other->dtype, call.query.dtype);
  if (call.key.text() != call.value.text()) refuse("value", "shape " + call.value.text(), "that of key " + call.key.text());
  const Axes query = query_axes(call);
  const Strides out = turned ? Strides{query.heads * query.width, query.width} : query.strides;
  if (query.length == 1) attend_single(call, query, out);
  else attend_prompts(call, query, out);
}

}  // namespace

extern "C" int IncreFlashAttention(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  using Index = argument::IncreFlashAttention;
  return answer("IncreFlashAttention", count, Index::COUNT, [&] {
    const Parameters all{count, data, ndims, shapes, dtypes};
    for (int index : {Index::pse_shift, Index::dequant_scale1, Index::quant_scale1, Index::dequant_scale2, Index::quant_scale2,
                      Index::quant_offset2, Index::antiquant_scale, Index::antiquant_offset})
      require_absent(all[index], "shift or quantization");
    require_absent(all[Index::kv_padding_size], "kv_padding_size");
    const Options options{all.integer(Index::num_heads), 1, all.number(Index::scale_value), 0, 0, all.integer(Index::input_layout), 0};
    const Parameter &query = all[Index::query];
    if (query.ndim > 2 && query.shape[query.ndim == 4 && options.layout == BNSD ? 2 : 1] != 1)
      refuse("query", "shape " + query.text(), "one token a sequence");
    infer({.options = options,
           .kv_heads = all.integer(Index::num_key_value_heads),
           .block_size = all.integer(Index::block_size),
           .query = query,
           .key = all[Index::key],
           .value = all[Index::value],
           .mask = all[Index::attn_mask],
           .q_lengths = {},
           .kv_lengths = all[Index::actual_seq_lengths],
           .table = all[Index::block_table],
           .out = all[Index::attention_out],
           .logarithms = {}});
  });
}

extern "C" int FusedInferAttentionScore(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *) {
  using Index = argument::FusedInferAttentionScore;
  return answer("FusedInferAttentionScore", count, Index::COUNT, [&] {
    const Parameters all{count, data, ndims, shapes, dtypes};
    require_absent(all[Index::pse_shift], "pse_shift");
    for (int index : {Index::dequant_scale1, Index::quant_scale1, Index::dequant_scale2, Index::quant_scale2,
                      Index::quant_offset2, Index::antiquant_scale, Index::antiquant_offset})
      require_absent(all[index], "quantization");
    for (int index : {Index::query_padding_size, Index::kv_padding_size, Index::key_antiquant_scale, Index::key_antiquant_offset,
                      Index::value_antiquant_scale, Index::value_antiquant_offset, Index::key_shared_prefix,
                      Index::value_shared_prefix, Index::actual_shared_prefix_len})
      require_absent(all[index], "padding size, quantization or shared prefix");
    const Parameter flag = all[Index::softmax_lse_flag];
    const bool wanted = flag.data != nullptr && *static_cast<const bool *>(flag.data);
    const Options options{all.integer(Index::num_heads),  1, all.number(Index::scale_value), all.integer(Index::pre_tokens),
                          all.integer(Index::next_tokens), all.integer(Index::input_layout), all.integer(Index::sparse_mode)};
    infer({.options = options,
           .kv_heads = all.integer(Index::num_key_value_heads),
           .block_size = all.integer(Index::block_size),
           .query = all[Index::query],
           .key = all[Index::key],
           .value = all[Index::value],
           .mask = all[Index::attn_mask],
           .q_lengths = all[Index::actual_seq_lengths],
           .kv_lengths = all[Index::actual_seq_lengths_kv],
           .table = all[Index::block_table],
           .out = all[Index::attention_out],
           .logarithms = wanted ? all[Index::softmax_lse] : Parameter{}});
  });
}
