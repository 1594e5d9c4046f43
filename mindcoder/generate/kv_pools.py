"""The memory of the paged cache, in floats or integers (`mindcoder.generate.kv_kinds`)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor
from mindspore.common.initializer import initializer

from mindcoder.models.decoder import Decoder

KINDS = ("key", "value")


def is_pool(name: str) -> bool:
    """Whether a parameter of this name is a pool of `key_value_pools`."""
    return any(name.startswith(f"{kind}_cache.") for kind in KINDS)


def key_value_pools(
    decoder: Decoder, blocks: int, block_size: int, dtype: ms.dtype.Number
) -> tuple[ParameterTuple, ParameterTuple]:
    """Zeroed keys and values of every layer, ``[blocks * block_size, K*D]``; operators may order a block their way."""
    shape = (blocks * block_size, decoder.local_config.kv_size)
    return _pools(decoder, "cache", shape, dtype)


def token_scales(decoder: Decoder, blocks: int, block_size: int) -> tuple[ParameterTuple, ParameterTuple]:
    """Scales of keys and values in integers, of every layer: float32 ``[blocks * block_size, K]``, in any order."""
    return _pools(decoder, "scales", (blocks * block_size, decoder.local_config.num_kv_heads), ms.float32)


def channel_scales(decoder: Decoder) -> tuple[ParameterTuple, ParameterTuple]:
    """Static scales of keys and values, of every layer: float32 ``[2, K*D]``, the offsets after the scales."""

    def rows(kind: str) -> ParameterTuple:
        kept = []
        for layer, scales in zip(decoder.stage.layers, decoder.kv_scales):
            own = getattr(scales, kind)
            values = Tensor(np.stack([own.scale, own.offset]))
            kept.append(Parameter(values, name=f"{kind}_channels.{layer}", requires_grad=False))
        return ParameterTuple(kept)

    return rows(KINDS[0]), rows(KINDS[1])


def rounded(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys or values ``[.., D]`` as int8, and their scales float32 ``[..]``."""
    scale = np.abs(values).max(-1) / np.float32(127)
    return np.rint(values / np.where(scale == 0, 1, scale)[..., None]).astype(np.int8), scale.astype(np.float32)


def _pools(
    decoder: Decoder, what: str, shape: tuple[int, int], dtype: ms.dtype.Number
) -> tuple[ParameterTuple, ParameterTuple]:
    def pools(kind: str) -> ParameterTuple:
        return ParameterTuple(
            [
                Parameter(initializer("zeros", shape, dtype), name=f"{kind}_{what}.{layer}", requires_grad=False)
                for layer in decoder.stage.layers
            ]
        )

    return pools(KINDS[0]), pools(KINDS[1])
