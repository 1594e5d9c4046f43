// FlashAttentionScore's parameters, as MindSpore passes them, understood and checked.
//
// Sparse modes and layouts: CANN's page of aclnnFlashAttentionScore. Refused because nothing here computes them: position
// shifts (pse), padding masks, prefixes, sparse modes above 4, layouts TH, NSD and SH.
#pragma once
#include <cstring>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "argument_index.h"
#include "flash.h"

namespace flash {

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One parameter: a tensor, a scalar (no dimensions), or nothing.
struct Parameter {
  void *data;
  int ndim;
  const int64_t *shape;
  const char *dtype;

  int64_t count() const;
  bool given() const { return data != nullptr && count() > 0; }
  std::string text() const;  // its shape
};

// The list of parameters of one call.
struct Parameters {
  int count;
  void **data;
  int *ndims;
  int64_t **shapes;
  const char **dtypes;

  Parameter operator[](int index) const { return {data[index], ndims[index], shapes[index], dtypes[index]}; }
  int64_t integer(int index) const;
  double number(int index) const;
};

// MindSpore's FASInputLayoutMode.
enum Layout : int64_t { BSH = 0, BNSD = 1, SBH = 2, BSND = 3, TND = 4, BNSD_BSND = 8 };

// A tensor's axes, whatever the layout.
struct Axes {
  int64_t batch, length, heads, width;
  Strides strides;
  int64_t sequence;  // elements from one batch entry to the next
};

// `width` is the head dimension where the layout does not tell it (BSH, SBH).
Axes axes_of(const Parameter &tensor, const char *name, int64_t layout, std::optional<int64_t> width);

struct Options {
  int64_t heads;
  double keep, scale;
  int64_t pre_tokens, next_tokens, layout, sparse_mode;

  // From the attributes of training's operators; Index is such an operator's, of operators.def.
  template <class Index>
  static Options read(const Parameters &all) {
    return {all.integer(Index::head_num), all.number(Index::keep_prob), all.number(Index::scale_value),
            all.integer(Index::pre_tokens), all.integer(Index::next_tokens), all.integer(Index::input_layout),
            all.integer(Index::sparse_mode)};
  }
};

struct Tensors {
  Parameter query, key, value, drop, mask, q_ends, kv_ends;

  template <class Index>
  static Tensors read(const Parameters &all) {
    return {all[Index::query], all[Index::key], all[Index::value], all[Index::drop_mask], all[Index::attn_mask],
            all[Index::actual_seq_qlen], all[Index::actual_seq_kvlen]};
  }
};

// Throws `Refused` with what was found and what is expected.
Call understand(const Options &options, const Tensors &tensors);

[[noreturn]] void refuse(const std::string &name, const std::string &found, const std::string &expected);
Element element_of(const Parameter &parameter, const char *name);
void require_absent(const Parameter &parameter, const char *name);

// The body of an operator: what it returns, 1 after a message where `work` throws or the number of parameters is wrong.
int answer(const char *name, int found, int expected, const std::function<void()> &work);

}  // namespace flash
