"""The network with a static key/value cache: one cell, compiled for a prefill chunk and for a single token."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.backend.device import resolve_dtype
from mindcoder.models.decoder import Decoder


class CachedDecoder(nn.Cell):
    """Runs ``S`` new tokens of ``B`` sequences against their caches.

    Slot t of a row's cache belongs to position t. Padding at the end of a chunk writes slots that later tokens of
    the row overwrite before anything may look at them, so rows of different lengths need no mask of their own.

    Args:
        decoder: the network, or a pipeline stage of it.
        batch: sequences B.
        slots: cache length T, at least the longest sequence, rounded up to whole chunks.
    """

    def __init__(self, decoder: Decoder, batch: int, slots: int) -> None:
        super().__init__(auto_prefix=False)
        config = decoder.config
        self.decoder = decoder
        self.slots = slots
        self.last_position = (config.longest_text or slots) - 1
        shape = (batch, slots, decoder.local_config.kv_size)
        dtype = resolve_dtype(config.compute_dtype)
        zeros = ms.common.initializer.initializer
        self.keys = ms.ParameterTuple(
            [
                Parameter(zeros("zeros", shape, dtype), name=f"key_cache.{layer}", requires_grad=False)
                for layer in decoder.stage.layers
            ]
        )
        self.values = ms.ParameterTuple(
            [
                Parameter(zeros("zeros", shape, dtype), name=f"value_cache.{layer}", requires_grad=False)
                for layer in decoder.stage.layers
            ]
        )
        self.write = ops.ScatterNdUpdate()
        self.gather = ops.Gather()
        self.concat = ops.Concat(-1)

    def construct(self, inputs: Tensor, positions: Tensor, last: Tensor, longest: Tensor) -> Tensor:
        """Append tokens and give the logits after one of each row's.

        Args:
            inputs: int32 ids ``[B, S]``; on a stage that is not the first one, the rows of the one before.
            positions: int32 ``[B, S]``, below ``slots``.
            last: int32 ``[B]``, which of the S tokens to give logits for.
            longest: int32 scalar, tokens of the longest sequence so far (for dynamic rotary scaling).

        Returns:
            float32 ``[B, V]``; on a stage that is not the last one, rows ``[B*S, H]`` for the next.
        """
        decoder = self.decoder
        batch, length = positions.shape
        rows = decoder.look_up(inputs)
        if decoder.stage.is_first:
            known = ops.minimum(positions, Tensor(self.last_position, ms.int32))
            rows = decoder.begin(rows, known, Tensor(0, ms.int32))
        rotation = decoder.rotation(positions, longest)
        bias = decoder.attention_bias.cached(positions, self.slots)
        row_numbers = ops.broadcast_to(ops.arange(0, batch, 1, dtype=ms.int32).reshape((batch, 1)), (batch, length))
        places = self.concat((row_numbers.reshape((-1, 1)), positions.reshape((-1, 1))))
        for index in range(len(decoder.layers)):
            layer = decoder.layers[index]
            normed = layer.attention_norm(rows)
            written = (
                self.write(self.keys[index], places, layer.attention.rotated_key(normed, rotation)),
                self.write(self.values[index], places, layer.attention.value(normed)),
            )
            normed = ops.depend(normed, written)
            rows = layer.finish_cached(
                rows, normed, rotation, self.keys[index], self.values[index], bias, batch, length
            )
        if not decoder.stage.is_last:
            return rows
        chosen = ops.arange(0, batch, 1, dtype=ms.int32) * length + last
        return decoder.logits(decoder.finish(self.gather(rows, chosen, 0)))
