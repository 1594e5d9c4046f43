// FlashAttentionScore and its gradient: layouts BSH, SBH, BSND and BNSD, and TND ("variable length") where sequences lie
// behind each other. Scores, softmax and sums are float32; outputs are rounded once. Position shifts (pse), prefixes and
// the sparse modes 5 to 8 are refused: nothing here computes them.
#include "attention.h"

namespace softcann {
namespace {

struct Options {
  Mask mask;
  double scale = 1, keep = 1;
  int64_t heads = 0;
  std::string layout;
  const Tensor* drop = nullptr;
};

Options options(const Tensor* attenMask, const Tensor* drop, double scale, double keep, int64_t pre, int64_t next, int64_t heads,
                char* layout, int64_t mode) {
  require_given(layout, "inputLayout");
  return {{attenMask, mode, pre, next}, scale, keep, heads, layout, drop};
}

void require_precision(int64_t mode) {
  if (mode < 0 || mode > 2) refuse("innerPrecise", std::to_string(mode), "0, 1 (both without effect) or 2");
}

void refuse_not_computed(const Tensor* pse, const Tensor* padding, const IntArray* prefix) {
  if (pse && pse->count()) refuse("realShiftOptional", text(pse->shape), "null, all that softcann computes");
  if (padding && padding->count()) refuse("paddingMaskOptional", text(padding->shape), "null: not used yet");
  if (prefix && prefix->size()) refuse("prefixOptional", "values", "null, all that softcann computes");
}

int64_t heads_in(const Tensor* tensor, const std::string& layout, int64_t width) {
  return layout == "BNSD" ? tensor->dim(1) : layout == "BSND" ? tensor->dim(2) : tensor->dim(2) / width;
}

void require_common(const Options& o, const Tensor* query, const Tensor* key, const Tensor* value, const Heads& h) {
  require_same_dtype(key, "key", query, "query");
  require_same_dtype(value, "value", query, "query");
  if (!(o.keep > 0 && o.keep <= 1)) refuse("keepProb", std::to_string(o.keep), "above 0, at most 1");
  if (o.heads < 1 || o.heads > 256) refuse("headNum", std::to_string(o.heads), "1 to 256");
  if (h.kv_heads < 1 || o.heads % h.kv_heads) refuse("key", std::to_string(h.kv_heads) + " heads", "a divisor of the query's " + std::to_string(o.heads));
  if (o.mask.tensor && o.mask.mode == 4 && o.mask.pre_tokens < -o.mask.next_tokens)
    refuse("preTokens and nextTokens", std::to_string(o.mask.pre_tokens) + " and " + std::to_string(o.mask.next_tokens), "a band that is not empty");
  if (h.width < 1 || h.width > 768) refuse("query", "head dimension " + std::to_string(h.width), "1 to 768");
  if (h.value_width > h.width) refuse("value", "head dimension " + std::to_string(h.value_width), "at most the key's " + std::to_string(h.width));
}

// Sizes of a call with an axis for the batch; refuses what does not fit together.
Heads fixed(const Options& o, const Tensor* query, const Tensor* key, const Tensor* value) {
  const std::string& layout = o.layout;
  if (layout != "BSH" && layout != "SBH" && layout != "BSND" && layout != "BNSD")
    refuse("inputLayout", "\"" + layout + "\"", "\"BSH\", \"SBH\", \"BSND\" or \"BNSD\"");
  const bool flat = layout == "BSH" || layout == "SBH";
  for (const Tensor* tensor : {query, key, value})
    if (tensor->rank() != (flat ? 3 : 4))
      refuse("query, key or value", text(tensor->shape), std::string(flat ? "3" : "4") + " dimensions for layout " + layout);
  if (o.heads < 1) refuse("headNum", std::to_string(o.heads), "1 to 256");
  if (flat && query->dim(2) % o.heads) refuse("query", text(query->shape), "a multiple of headNum " + std::to_string(o.heads) + " as last axis");
  Heads h;
  h.heads = o.heads;
  h.width = flat ? query->dim(2) / o.heads : query->dim(3);
  if (!flat && heads_in(query, layout, h.width) != o.heads) refuse("headNum", std::to_string(o.heads), "the query's heads in " + text(query->shape));
  if (flat && h.width && key->dim(2) % h.width) refuse("key", text(key->shape), "a multiple of the head dimension " + std::to_string(h.width));
  h.kv_heads = heads_in(key, layout, std::max<int64_t>(h.width, 1));
  if (h.kv_heads < 1) refuse("key", text(key->shape), "at least one head");
  const View q = headed(query, layout, h.heads), k = headed(key, layout, h.kv_heads), v = headed(value, layout, h.kv_heads);
  h.batch = q.shape[0], h.q_length = q.shape[2], h.kv_length = k.shape[2], h.value_width = v.shape[3];
  if (h.batch < 1 || h.batch > 2 << 20) refuse("query", "batch " + std::to_string(h.batch), "1 to 2097152");
  if (k.shape[3] != h.width) refuse("key", text(key->shape), "the query's head dimension " + std::to_string(h.width));
  if (k.shape[0] != h.batch || v.shape[0] != h.batch) refuse("key or value", text(key->shape), "the query's batch " + std::to_string(h.batch));
  if (v.shape[2] != h.kv_length || v.shape[1] != h.kv_heads) refuse("value", text(value->shape), "the key's shape but for the head dimension");
  require_common(o, query, key, value, h);
  require_mask(o.mask, "attenMaskOptional",
               {{h.q_length, h.kv_length}, {1, 1, h.q_length, h.kv_length}, {h.batch, 1, h.q_length, h.kv_length},
                {h.batch, h.heads, h.q_length, h.kv_length}},
               true);
  const int64_t bits = h.batch * h.heads * h.q_length * h.kv_length;
  if (o.drop && o.drop->count() && 8 * o.drop->count() < bits)
    refuse("dropMaskOptional", std::to_string(o.drop->count()) + " bytes", "a bit a score, at least " + std::to_string((bits + 7) / 8));
  return h;
}

// Hidden keys of one head. `values` is the mask broadcast to (B, N, Sq, Skv), or null.
void hide(const Mask& mask, const int64_t* values, int64_t rows, int64_t columns, std::vector<uint8_t>& hidden) {
  hidden.assign(rows * columns, 0);
  const Band band = mask.band(rows, columns);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = i * columns + j;
      hidden[at] = (values && values[at]) || !band.sees(i, j);
      if (mask.mode == 0 && values && !values[at] && !band.sees(i, j))
        throw std::runtime_error("attenMaskOptional shows key " + std::to_string(j) + " to query " + std::to_string(i) +
                                 ", outside of preTokens and nextTokens; documented is that both agree");
    }
}

// One part of a call that has its own lengths: a whole batch, or one sequence of TND.
struct Part {
  View q, k, v;         // (B, N, S, D)
  int64_t drop_offset;  // in bits
};

template <class Work>
void for_each_head(const Options& o, const Part& part, int64_t kv_heads, Work work) {
  const int64_t batch = part.q.shape[0], rows = part.q.shape[2], columns = part.k.shape[2];
  const auto q = read<float>(&part.q, part.q.shape), k = read<float>(&part.k, part.k.shape), v = read<float>(&part.v, part.v.shape);
  std::vector<uint8_t> hidden, dropped;
  std::vector<int64_t> values;
  if (o.mask.tensor && !o.mask.compressed()) {
    const auto all = read<int64_t>(o.mask.tensor, Shape{batch, o.heads, rows, columns});
    values.assign(all.begin(), all.end());
  }
  std::vector<int64_t> bytes;
  if (o.drop && o.drop->count()) {
    const auto all = read<int64_t>(o.drop);
    bytes.assign(all.begin(), all.end());
  }
  const int64_t width = part.q.shape[3], value_width = part.v.shape[3], group = o.heads / kv_heads;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t n = 0; n < o.heads; ++n) {
      const int64_t head = b * o.heads + n, kv = b * kv_heads + n / group;
      hide(o.mask, values.empty() ? nullptr : values.data() + head * rows * columns, rows, columns, hidden);
      if (!bytes.empty()) {
        dropped.resize(rows * columns);
        for (int64_t i = 0; i < rows * columns; ++i) {
          const int64_t bit = part.drop_offset + head * rows * columns + i;
          dropped[i] = !(bytes[bit / 8] >> bit % 8 & 1);
        }
      }
      work(Head{q.data() + head * rows * width, k.data() + kv * columns * width, v.data() + kv * columns * value_width, rows, columns,
                width, value_width, static_cast<float>(o.scale), hidden.data(), bytes.empty() ? nullptr : dropped.data(),
                static_cast<float>(o.keep)},
           head, kv);
    }
}

// softmaxMax and softmaxSum keep each number eight times, the width of a block on the device.
void write_statistics(Tensor* tensor, View view, const std::vector<float>& values) {
  (void)tensor;
  std::vector<float> eight(values.size() * 8);
  for (size_t i = 0; i < eight.size(); ++i) eight[i] = values[i / 8];
  write(static_cast<Tensor*>(&view), eight.data());
}

void forward(const Options& o, const Part& part, int64_t kv_heads, View out, View largest_view, View sum_view) {
  const int64_t rows = part.q.shape[2], width = part.v.shape[3], heads = part.q.shape[0] * o.heads;
  std::vector<float> y(heads * rows * width), largest(heads * rows), sums(heads * rows);
  for_each_head(o, part, kv_heads, [&](const Head& head, int64_t at, int64_t) {
    attend(head, y.data() + at * rows * width, largest.data() + at * rows, sums.data() + at * rows);
  });
  write(static_cast<Tensor*>(&out), y.data());
  write_statistics(nullptr, largest_view, largest);
  write_statistics(nullptr, sum_view, sums);
}

struct Saved {
  View dout, out, largest, sums;
};
struct Gradients {
  View dq, dk, dv;
};

void backward(const Options& o, const Part& part, int64_t kv_heads, const Saved& saved, Gradients g) {
  const int64_t rows = part.q.shape[2], columns = part.k.shape[2], width = part.q.shape[3], value_width = part.v.shape[3];
  const auto dout = read<float>(&saved.dout, saved.dout.shape), out = read<float>(&saved.out, saved.out.shape);
  const auto largest = read<float>(&saved.largest, saved.largest.shape), sums = read<float>(&saved.sums, saved.sums.shape);
  std::vector<float> dq(count(part.q.shape), 0.0f), dk(count(part.k.shape), 0.0f), dv(count(part.v.shape), 0.0f), top(rows), sum(rows);
  for_each_head(o, part, kv_heads, [&](const Head& head, int64_t at, int64_t kv) {
    for (int64_t i = 0; i < rows; ++i) top[i] = largest[(at * rows + i) * 8], sum[i] = sums[(at * rows + i) * 8];
    attend_backward(head, dout.data() + at * rows * value_width, out.data() + at * rows * value_width, top.data(), sum.data(),
                    dq.data() + at * rows * width, dk.data() + kv * columns * width, dv.data() + kv * columns * value_width);
  });
  write(static_cast<Tensor*>(&g.dq), dq.data());
  write(static_cast<Tensor*>(&g.dk), dk.data());
  write(static_cast<Tensor*>(&g.dv), dv.data());
}

Shape output_shape(const Tensor* query, const Heads& h, const std::string& layout) {
  Shape shape = query->shape;
  shape.back() = layout == "BSH" || layout == "SBH" ? h.heads * h.value_width : h.value_width;
  return shape;
}

Launch fixed_forward(const Options& o, const Tensor* query, const Tensor* key, const Tensor* value, Tensor* largest, Tensor* sums, Tensor* out) {
  const Heads h = fixed(o, query, key, value);
  require_shape(out, "attentionOutOut", output_shape(query, h, o.layout));
  require_same_dtype(out, "attentionOutOut", query, "query");
  for (const Tensor* statistic : {largest, sums}) require_shape(statistic, "softmaxMaxOut or softmaxSumOut", {h.batch, h.heads, h.q_length, 8});
  return launch([=] {
    check_compressed(o.mask);
    const Part part{headed(query, o.layout, h.heads), headed(key, o.layout, h.kv_heads), headed(value, o.layout, h.kv_heads), 0};
    forward(o, part, h.kv_heads, headed(out, o.layout, h.heads), View(largest), View(sums));
  });
}

Launch fixed_backward(const Options& o, const Tensor* query, const Tensor* key, const Tensor* value, const Tensor* dy, const Tensor* largest,
                      const Tensor* sums, const Tensor* out, Tensor* dq, Tensor* dk, Tensor* dv) {
  const Heads h = fixed(o, query, key, value);
  const Shape expected = output_shape(query, h, o.layout);
  require_shape(dy, "dy", expected);
  require_shape(out, "attentionInOptional", expected);
  for (const Tensor* statistic : {largest, sums}) require_shape(statistic, "softmaxMaxOptional or softmaxSumOptional", {h.batch, h.heads, h.q_length, 8});
  require_shape(dq, "dqOut", query->shape);
  require_shape(dk, "dkOut", key->shape);
  require_shape(dv, "dvOut", value->shape);
  return launch([=] {
    check_compressed(o.mask);
    const Part part{headed(query, o.layout, h.heads), headed(key, o.layout, h.kv_heads), headed(value, o.layout, h.kv_heads), 0};
    const Saved saved{headed(dy, o.layout, h.heads), headed(out, o.layout, h.heads), View(largest), View(sums)};
    backward(o, part, h.kv_heads, saved, {headed(dq, o.layout, h.heads), headed(dk, o.layout, h.kv_heads), headed(dv, o.layout, h.kv_heads)});
  });
}

// Sequences of TND: rows up to each end.
struct Sequences {
  std::vector<int64_t> q_ends, kv_ends;
};

Heads varying(const Options& o, const Tensor* query, const Tensor* key, const Tensor* value, const IntArray* q_ends, const IntArray* kv_ends,
              Sequences& sequences) {
  if (o.layout != "TND") refuse("inputLayout", "\"" + o.layout + "\"", "\"TND\"");
  for (const Tensor* tensor : {query, key, value}) require_rank(tensor, "query, key or value", 3, 3);
  require_given(q_ends, "actualSeqQLenOptional");
  require_given(kv_ends, "actualSeqKvLenOptional");
  sequences = {q_ends->values, kv_ends->values};
  if (q_ends->size() == 0 || q_ends->size() != kv_ends->size() || q_ends->size() > 2048)
    refuse("actualSeqQLenOptional", std::to_string(q_ends->size()) + " and " + std::to_string(kv_ends->size()) + " ends", "1 to 2048, as many for keys as for queries");
  for (const auto* ends : {&sequences.q_ends, &sequences.kv_ends}) {
    const Tensor* tensor = ends == &sequences.q_ends ? query : key;
    if (!std::is_sorted(ends->begin(), ends->end()) || ends->front() < 0 || ends->back() > tensor->dim(0))
      refuse("actualSeqQLenOptional or actualSeqKvLenOptional", text(*ends), "rising ends of sequences up to " + std::to_string(tensor->dim(0)));
  }
  Heads h;
  h.heads = query->dim(1), h.kv_heads = key->dim(1), h.width = query->dim(2), h.value_width = value->dim(2);
  if (h.heads != o.heads) refuse("headNum", std::to_string(o.heads), "the query's heads, " + std::to_string(h.heads));
  if (key->dim(2) != h.width) refuse("key", text(key->shape), "the query's head dimension " + std::to_string(h.width));
  if (value->dim(0) != key->dim(0) || value->dim(1) != h.kv_heads) refuse("value", text(value->shape), "the key's shape but for the head dimension");
  require_common(o, query, key, value, h);
  int64_t longest = 0, longest_kv = 0;
  for (size_t i = 0; i < sequences.q_ends.size(); ++i) {
    const int64_t rows = sequences.q_ends[i] - (i ? sequences.q_ends[i - 1] : 0), columns = sequences.kv_ends[i] - (i ? sequences.kv_ends[i - 1] : 0);
    longest = std::max(longest, rows), longest_kv = std::max(longest_kv, columns);
    if (o.mask.tensor && o.mask.mode == 3 && rows > columns)
      refuse("actualSeqQLenOptional", std::to_string(rows) + " queries and " + std::to_string(columns) + " keys in sequence " + std::to_string(i),
             "at least as many keys as queries for sparseMode 3");
  }
  require_mask(o.mask, "attenMaskOptional", {{longest, longest_kv}}, true);
  return h;
}

template <class Work>
void for_each_sequence(const Options& o, const Sequences& s, const Tensor* query, const Tensor* key, const Tensor* value, Work work) {
  check_compressed(o.mask);
  int64_t first = 0, first_kv = 0, bits = 0;
  for (size_t i = 0; i < s.q_ends.size(); ++i) {
    const int64_t rows = s.q_ends[i] - first, columns = s.kv_ends[i] - first_kv;
    Options own = o;
    View mask(o.mask.tensor ? o.mask.tensor : query);
    if (o.mask.tensor && !o.mask.compressed()) mask.shape = {rows, columns}, own.mask.tensor = &mask;  // its upper left corner
    work(own, Part{headed_rows(query, first, rows), headed_rows(key, first_kv, columns), headed_rows(value, first_kv, columns), bits}, first, rows, first_kv, columns);
    bits += o.heads * rows * columns;
    first = s.q_ends[i], first_kv = s.kv_ends[i];
  }
}

// (T, N, 8), as MindSpore's shape inference and the page of the gradient have it; the forward page says [N,T,8].
void require_statistics(const Tensor* tensor, const char* name, const Tensor* query) { require_shape(tensor, name, {query->dim(0), query->dim(1), 8}); }

Launch varying_forward(const Options& o, const Tensor* query, const Tensor* key, const Tensor* value, const IntArray* q_ends, const IntArray* kv_ends,
                       Tensor* largest, Tensor* sums, Tensor* out) {
  Sequences s;
  const Heads h = varying(o, query, key, value, q_ends, kv_ends, s);
  require_shape(out, "attentionOutOut", {query->dim(0), h.heads, h.value_width});
  require_same_dtype(out, "attentionOutOut", query, "query");
  require_statistics(largest, "softmaxMaxOut", query);
  require_statistics(sums, "softmaxSumOut", query);
  return launch([=] {
    for_each_sequence(o, s, query, key, value, [&](const Options& own, const Part& part, int64_t first, int64_t rows, int64_t, int64_t) {
      if (rows) forward(own, part, h.kv_heads, headed_rows(out, first, rows), headed_rows(largest, first, rows), headed_rows(sums, first, rows));
    });
  });
}

Launch varying_backward(const Options& o, const Tensor* query, const Tensor* key, const Tensor* value, const Tensor* dy, const Tensor* largest,
                        const Tensor* sums, const Tensor* out, const IntArray* q_ends, const IntArray* kv_ends, Tensor* dq, Tensor* dk, Tensor* dv) {
  Sequences s;
  const Heads h = varying(o, query, key, value, q_ends, kv_ends, s);
  require_shape(dy, "dy", {query->dim(0), h.heads, h.value_width});
  require_shape(out, "attentionInOptional", dy->shape);
  require_statistics(largest, "softmaxMaxOptional", query);
  require_statistics(sums, "softmaxSumOptional", query);
  require_shape(dq, "dqOut", query->shape);
  require_shape(dk, "dkOut", key->shape);
  require_shape(dv, "dvOut", value->shape);
  return launch([=] {
    for (Tensor* gradient : {dq, dk, dv}) write(gradient, std::vector<float>(gradient->count(), 0.0f));
    for_each_sequence(o, s, query, key, value, [&](const Options& own, const Part& part, int64_t first, int64_t rows, int64_t first_kv, int64_t columns) {
      const Saved saved{headed_rows(dy, first, rows), headed_rows(out, first, rows), headed_rows(largest, first, rows), headed_rows(sums, first, rows)};
      backward(own, part, h.kv_heads, saved, {headed_rows(dq, first, rows), headed_rows(dk, first_kv, columns), headed_rows(dv, first_kv, columns)});
    });
  });
}

void refuse_starts(const IntArray* q_start, const IntArray* kv_start, int64_t pse_type) {
  (void)q_start, (void)kv_start;  // read for pseType 2 and 3 alone
  if (pse_type != 0 && pse_type != 1) refuse("pseType", std::to_string(pse_type), "0 or 1, which have no effect without a shift");
}

}  // namespace
}  // namespace softcann

#define FORWARD_TENSORS                                                                                                     \
  const Tensor *query, const Tensor *key, const Tensor *value, const Tensor *realShiftOptional, const Tensor *dropMaskOptional, \
      const Tensor *paddingMaskOptional, const Tensor *attenMaskOptional, const IntArray *prefixOptional
#define BACKWARD_TENSORS                                                                                                    \
  const Tensor *query, const Tensor *keyIn, const Tensor *value, const Tensor *dy, const Tensor *pseShiftOptional,          \
      const Tensor *dropMaskOptional, const Tensor *paddingMaskOptional, const Tensor *attenMaskOptional,                   \
      const Tensor *softmaxMaxOptional, const Tensor *softmaxSumOptional, const Tensor *softmaxInOptional,                  \
      const Tensor *attentionInOptional, const IntArray *prefixOptional
#define NUMBERS                                                                                                            \
  double scaleValue, double keepProb, int64_t preTokens, int64_t nextTokens, int64_t headNum, char *inputLayout,            \
      int64_t innerPrecise, int64_t sparseMode
#define FORWARD_OUTS Tensor *softmaxMaxOut, Tensor *softmaxSumOut, Tensor *softmaxOutOut, Tensor *attentionOutOut
#define BACKWARD_OUTS Tensor *dqOut, Tensor *dkOut, Tensor *dvOut, Tensor *dpseOut
#define OPTIONS                                                                                                            \
  options(attenMaskOptional && attenMaskOptional->count() ? attenMaskOptional : nullptr, dropMaskOptional, scaleValue, keepProb, \
          preTokens, nextTokens, headNum, inputLayout, sparseMode)
#define CHECK_FORWARD(NAME)                                                                                                \
  DOCUMENTED(NAME, query, key, value, realShiftOptional, dropMaskOptional, attenMaskOptional, softmaxMaxOut, softmaxSumOut, attentionOutOut); \
  (void)softmaxOutOut; /* an output that is not used */                                                                     \
  require_precision(innerPrecise);                                                                                         \
  refuse_not_computed(realShiftOptional, paddingMaskOptional, prefixOptional)
#define CHECK_BACKWARD(NAME)                                                                                               \
  DOCUMENTED(NAME, query, keyIn, value, dy, pseShiftOptional, dropMaskOptional, attenMaskOptional, softmaxMaxOptional,      \
             softmaxSumOptional, attentionInOptional, dqOut, dkOut);                                                       \
  DOCUMENTED(NAME, dvOut);                                                                                                 \
  (void)softmaxInOptional, (void)dpseOut;                                                                                  \
  require_precision(innerPrecise);                                                                                         \
  require_given(softmaxMaxOptional, "softmaxMaxOptional");                                                                 \
  require_given(softmaxSumOptional, "softmaxSumOptional");                                                                 \
  require_given(attentionInOptional, "attentionInOptional");                                                               \
  refuse_not_computed(pseShiftOptional, paddingMaskOptional, prefixOptional)

ACLNN(aclnnFlashAttentionScore, FORWARD_TENSORS, NUMBERS, FORWARD_OUTS) {
  CHECK_FORWARD(aclnnFlashAttentionScore);
  return fixed_forward(OPTIONS, query, key, value, softmaxMaxOut, softmaxSumOut, attentionOutOut);
}

ACLNN(aclnnFlashAttentionScoreV2, FORWARD_TENSORS, const IntArray* qStartIdxOptional, const IntArray* kvStartIdxOptional, NUMBERS,
      int64_t pseType, FORWARD_OUTS) {
  CHECK_FORWARD(aclnnFlashAttentionScoreV2);
  refuse_starts(qStartIdxOptional, kvStartIdxOptional, pseType);
  return fixed_forward(OPTIONS, query, key, value, softmaxMaxOut, softmaxSumOut, attentionOutOut);
}

ACLNN(aclnnFlashAttentionScoreGrad, BACKWARD_TENSORS, NUMBERS, BACKWARD_OUTS) {
  CHECK_BACKWARD(aclnnFlashAttentionScoreGrad);
  return fixed_backward(OPTIONS, query, keyIn, value, dy, softmaxMaxOptional, softmaxSumOptional, attentionInOptional, dqOut, dkOut, dvOut);
}

ACLNN(aclnnFlashAttentionScoreGradV2, BACKWARD_TENSORS, const IntArray* qStartIdxOptional, const IntArray* kvStartIdxOptional, NUMBERS,
      int64_t pseType, BACKWARD_OUTS) {
  CHECK_BACKWARD(aclnnFlashAttentionScoreGradV2);
  refuse_starts(qStartIdxOptional, kvStartIdxOptional, pseType);
  return fixed_backward(OPTIONS, query, keyIn, value, dy, softmaxMaxOptional, softmaxSumOptional, attentionInOptional, dqOut, dkOut, dvOut);
}

ACLNN(aclnnFlashAttentionVarLenScore, FORWARD_TENSORS, const IntArray* actualSeqQLenOptional, const IntArray* actualSeqKvLenOptional, NUMBERS,
      FORWARD_OUTS) {
  CHECK_FORWARD(aclnnFlashAttentionVarLenScore);
  return varying_forward(OPTIONS, query, key, value, actualSeqQLenOptional, actualSeqKvLenOptional, softmaxMaxOut, softmaxSumOut, attentionOutOut);
}

ACLNN(aclnnFlashAttentionVarLenScoreV2, FORWARD_TENSORS, const IntArray* actualSeqQLenOptional, const IntArray* actualSeqKvLenOptional,
      const IntArray* qStartIdxOptional, const IntArray* kvStartIdxOptional, NUMBERS, int64_t pseType, FORWARD_OUTS) {
  CHECK_FORWARD(aclnnFlashAttentionVarLenScoreV2);
  refuse_starts(qStartIdxOptional, kvStartIdxOptional, pseType);
  return varying_forward(OPTIONS, query, key, value, actualSeqQLenOptional, actualSeqKvLenOptional, softmaxMaxOut, softmaxSumOut, attentionOutOut);
}

ACLNN(aclnnFlashAttentionUnpaddingScoreGrad, BACKWARD_TENSORS, const IntArray* actualSeqQLenOptional, const IntArray* actualSeqKvLenOptional,
      NUMBERS, BACKWARD_OUTS) {
  CHECK_BACKWARD(aclnnFlashAttentionUnpaddingScoreGrad);
  return varying_backward(OPTIONS, query, keyIn, value, dy, softmaxMaxOptional, softmaxSumOptional, attentionInOptional, actualSeqQLenOptional,
                          actualSeqKvLenOptional, dqOut, dkOut, dvOut);
}

ACLNN(aclnnFlashAttentionUnpaddingScoreGradV2, BACKWARD_TENSORS, const IntArray* actualSeqQLenOptional, const IntArray* actualSeqKvLenOptional,
      const IntArray* qStartIdxOptional, const IntArray* kvStartIdxOptional, NUMBERS, int64_t pseType, BACKWARD_OUTS) {
  CHECK_BACKWARD(aclnnFlashAttentionUnpaddingScoreGradV2);
  refuse_starts(qStartIdxOptional, kvStartIdxOptional, pseType);
  return varying_backward(OPTIONS, query, keyIn, value, dy, softmaxMaxOptional, softmaxSumOptional, attentionInOptional, actualSeqQLenOptional,
                          actualSeqKvLenOptional, dqOut, dkOut, dvOut);
}
