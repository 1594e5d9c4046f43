"""The tensor types that are read and written, by number."""

from __future__ import annotations

from mindcoder.checkpoint.gguf.block_type import BlockType
from mindcoder.checkpoint.gguf.k_types import Q4_K, Q5_K, Q6_K
from mindcoder.checkpoint.gguf.number_types import BF16, F16, F32
from mindcoder.checkpoint.gguf.simple_types import Q4_0, Q4_1, Q5_0, Q5_1, Q8_0

TENSOR_TYPES: dict[int, BlockType] = {
    kind.number: kind for kind in (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K)
}

# Names of the others (ggml.h, enum ggml_type), for messages.
NOT_READ = {
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
}
