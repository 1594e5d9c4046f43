"""The memory of the paged cache."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, ParameterTuple
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

    def pools(kind: str) -> ParameterTuple:
        return ParameterTuple(
            [
                Parameter(initializer("zeros", shape, dtype), name=f"{kind}_cache.{layer}", requires_grad=False)
                for layer in decoder.stage.layers
            ]
        )

    return pools(KINDS[0]), pools(KINDS[1])
