// The library as MindSpore's CPU operator plugin (MS_OP_PLUGIN_PATH): which operators it has, and the function of each.
//
// MindSpore asks for the names when it compiles its first graph, and from then on calls the function of that name for
// every tensor, whatever its dtype and shape; there is no way back to MindSpore's own kernel. An operator that MindSpore
// has on CPU, too, must therefore take all that its own kernel takes.
#include <cstdio>
#include <cstring>
#include <exception>

#include "arguments.h"
#include "layouts.h"
#include "operator_list.h"

namespace {

using Operator = void(const Arguments &);

// 0, or 1 after the reason was printed: MindSpore then ends the graph with its own error, which has the operator's name.
int call(const char *name, Operator *compute, int count, void **data, int *ndims, int64_t **shapes, const char **dtypes,
         void *extra) {
  try {
    Layouts layouts(count, data, ndims, shapes, dtypes, extra);
    compute(Arguments(name, count, layouts.data(), ndims, shapes, dtypes));
    if (std::strncmp(name, "Inplace", 7) == 0 || std::strcmp(name, "AdamW") == 0) layouts.write_back();
    return 0;
  } catch (const Refused &refused) {
    std::fprintf(stderr, "mindcoder: operator %s on CPU: %s\n", name, refused.reason.c_str());
  } catch (const std::exception &error) {
    std::fprintf(stderr, "mindcoder: operator %s on CPU: %s\n", name, error.what());
  }
  return 1;
}

const char *const NAMES[] = {
    // normalization
    "LayerNormExt", "LayerNormGradExt", "RmsNorm", "RmsNormGrad",
    // activations
    "GeLU", "GeLUGrad", "SiLU", "SiLUGrad", "RotaryPositionEmbedding",
    // arithmetic
    "Add", "Sub", "Mul", "FloorDiv", "Cast", "Reshape", "BitwiseAndScalar", "BitwiseXorTensor",
    // sums
    "SumExt", "Norm",
    // rows and ranges of tables
    "IndexSelect", "EmbeddingDenseBackward", "IndexAddExt", "ScatterAddExt", "InplaceIndexCopy",
    "InplaceAddExt",
    // update
    "AdamW",
    // attention: flash_operators.cpp, flash_inference.cpp
    "FlashAttentionScore", "FlashAttentionScoreGrad", "IncreFlashAttention", "FusedInferAttentionScore",
};

}  // namespace

extern "C" {

int GetRegisteredOpCount() { return sizeof NAMES / sizeof *NAMES; }

const char **GetAllRegisteredOps() { return const_cast<const char **>(NAMES); }

bool IsKernelRegistered(const char *name) {
  for (const char *known : NAMES)
    if (std::strcmp(name, known) == 0) return true;
  return false;
}

int LayerNormExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("LayerNormExt", layer_norm, count, data, ndims, shapes, dtypes, extra);
}
int LayerNormGradExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("LayerNormGradExt", layer_norm_gradient, count, data, ndims, shapes, dtypes, extra);
}
int RmsNorm(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("RmsNorm", rms_norm, count, data, ndims, shapes, dtypes, extra);
}
int RmsNormGrad(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("RmsNormGrad", rms_norm_gradient, count, data, ndims, shapes, dtypes, extra);
}

int GeLU(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("GeLU", gelu_tanh, count, data, ndims, shapes, dtypes, extra);
}
int GeLUGrad(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("GeLUGrad", gelu_tanh_gradient, count, data, ndims, shapes, dtypes, extra);
}
int SiLU(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("SiLU", silu, count, data, ndims, shapes, dtypes, extra);
}
int SiLUGrad(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("SiLUGrad", silu_gradient, count, data, ndims, shapes, dtypes, extra);
}
int RotaryPositionEmbedding(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("RotaryPositionEmbedding", rotary, count, data, ndims, shapes, dtypes, extra);
}

int Add(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("Add", add, count, data, ndims, shapes, dtypes, extra);
}
int Sub(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("Sub", subtract, count, data, ndims, shapes, dtypes, extra);
}
int Mul(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("Mul", multiply, count, data, ndims, shapes, dtypes, extra);
}
int FloorDiv(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("FloorDiv", floor_divide, count, data, ndims, shapes, dtypes, extra);
}
int Cast(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("Cast", cast, count, data, ndims, shapes, dtypes, extra);
}
int Reshape(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("Reshape", reshape, count, data, ndims, shapes, dtypes, extra);
}
int BitwiseAndScalar(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("BitwiseAndScalar", bitwise_and_scalar, count, data, ndims, shapes, dtypes, extra);
}
int BitwiseXorTensor(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("BitwiseXorTensor", bitwise_xor, count, data, ndims, shapes, dtypes, extra);
}

int SumExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("SumExt", sum_over_axes, count, data, ndims, shapes, dtypes, extra);
}
int Norm(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("Norm", norm, count, data, ndims, shapes, dtypes, extra);
}

int IndexSelect(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("IndexSelect", index_select, count, data, ndims, shapes, dtypes, extra);
}
int EmbeddingDenseBackward(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("EmbeddingDenseBackward", embedding_gradient, count, data, ndims, shapes, dtypes, extra);
}
int IndexAddExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("IndexAddExt", index_add, count, data, ndims, shapes, dtypes, extra);
}
int ScatterAddExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("ScatterAddExt", scatter_add, count, data, ndims, shapes, dtypes, extra);
}
int InplaceIndexCopy(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("InplaceIndexCopy", inplace_index_copy, count, data, ndims, shapes, dtypes, extra);
}
int InplaceAddExt(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("InplaceAddExt", inplace_add, count, data, ndims, shapes, dtypes, extra);
}

int AdamW(int count, void **data, int *ndims, int64_t **shapes, const char **dtypes, void *, void *extra) {
  return call("AdamW", adamw, count, data, ndims, shapes, dtypes, extra);
}

}  // extern "C"
