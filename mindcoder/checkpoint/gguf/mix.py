"""Which tensor is written in which type: the mixes that llama.cpp calls F16, Q4_0, Q4_K_M and so on.

The rules are those of llama.cpp's quantizer (src/llama-quant.cpp, llama_tensor_get_type).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mindcoder.checkpoint.gguf.block_type import BlockType
from mindcoder.checkpoint.gguf.k_types import Q4_K, Q5_K, Q6_K
from mindcoder.checkpoint.gguf.number_types import BF16, F16, F32
from mindcoder.checkpoint.gguf.simple_types import Q4_0, Q5_0, Q5_1, Q8_0
from mindcoder.families.gguf_form import EMBEDDING, HEAD

LAYER = re.compile(r"blk\.(\d+)\.")
KEPT_SINGLE = ("position_embd.weight",)  # llama.cpp adds it in float32
# Where rows are not a whole number of blocks of 256: a type of about as many bits with blocks of 32.
FALLBACK = {Q4_K.name: Q5_0, Q5_K.name: Q5_1, Q6_K.name: Q8_0}


@dataclass(frozen=True)
class Mix:
    """A choice of types.

    Attributes:
        name: as ``--type`` says it.
        file_type: ``general.file_type``.
        usual: type of the matrices.
        head: type of the matrix that gives the logits: the head, or the embedding where it is tied.
        is_mixed: whether some matrices are given more bits than the others.
    """

    name: str
    file_type: int
    usual: BlockType
    head: BlockType
    is_mixed: bool = False


MIXES = {
    mix.name: mix
    for mix in (
        Mix("f32", 0, F32, F32),
        Mix("f16", 1, F16, F16),
        Mix("bf16", 32, BF16, BF16),
        Mix("q8_0", 7, Q8_0, Q8_0),
        Mix("q4_0", 2, Q4_0, Q6_K),
        Mix("q4_k_m", 15, Q4_K, Q6_K, is_mixed=True),
    )
}


def choose_types(mix: Mix, shapes: Mapping[str, tuple[int, ...]], layers: int) -> dict[str, BlockType]:
    """The type of every tensor.

    Args:
        shapes: by GGUF's name.
        layers: of the network.
    """
    head = HEAD if HEAD in shapes else EMBEDDING
    return {name: _fitting(_asked(mix, name, shape, head, layers), shape) for name, shape in shapes.items()}


def replaced(mix: Mix, shapes: Mapping[str, tuple[int, ...]], layers: int) -> dict[str, tuple[BlockType, BlockType]]:
    """The tensors whose rows are not a whole number of blocks of the type that the mix asks for.

    Returns:
        name -> (asked for, written).
    """
    head = HEAD if HEAD in shapes else EMBEDDING
    found = {}
    for name, shape in shapes.items():
        asked = _asked(mix, name, shape, head, layers)
        written = _fitting(asked, shape)
        if written is not asked:
            found[name] = (asked, written)
    return found


def _asked(mix: Mix, name: str, shape: tuple[int, ...], head: str, layers: int) -> BlockType:
    if len(shape) == 1 or name in KEPT_SINGLE:
        return F32
    if name == head:
        return mix.head
    if not mix.is_mixed:
        return mix.usual
    if ".attn_qkv." in name:
        return Q5_K
    match = LAYER.match(name)
    if match and (".attn_v." in name or ".ffn_down." in name) and _has_more_bits(int(match[1]), layers):
        return Q6_K
    return mix.usual


def _has_more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _fitting(kind: BlockType, shape: tuple[int, ...]) -> BlockType:
    if shape[-1] % kind.values == 0:
        return kind
    smaller = FALLBACK.get(kind.name, F16)
    return smaller if shape[-1] % smaller.values == 0 else F16
