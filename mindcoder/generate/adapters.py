"""Several low-rank adapters on one base model, a step's tokens each with their own (S-LoRA, Sheng et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mindspore import Parameter, Tensor

from mindcoder.checkpoint.adapter import Adapter
from mindcoder.families.parameter_names import LORA_A, LORA_B, split_layer
from mindcoder.models.decoder import Decoder
from mindcoder.models.methods.multi_lora import MultiLoRA
from mindcoder.models.tensor_parallel import INPUT_AXIS, OUTPUT_AXIS, Shard

COLUMNS_PER_VECTOR = 16  # of the C++ operators; the ranks together are padded to a multiple of it


class LoadedAdapters:
    """The adapters that a network holds, and which of them each token of a step uses.

    Attributes:
        names: of the adapters; number 0 is the base model, adapter ``i`` of the list has number ``i + 1``.
        mask: float32 Parameter ``[Q, R]``: 1 where a token of the step uses a column of the adapters' matrices, 0
            elsewhere.
    """

    def __init__(self, ranges: Mapping[str, tuple[int, int]], columns: int, tokens: int) -> None:
        self.names = tuple(ranges)
        self._ranges = list(ranges.values())
        self._current = np.zeros((tokens, columns), np.float32)
        self.mask = Parameter(Tensor(self._current), name="adapter_shares", requires_grad=False)

    def number(self, name: str | None) -> int:
        """Of one of the adapters; 0 is the base model's."""
        return 0 if name is None else self.names.index(name) + 1

    def choose(self, numbers: np.ndarray) -> bool:
        """Give each of the next step's tokens its adapter; whether any of them has one."""
        mask = np.zeros_like(self._current)
        for number in np.unique(numbers[numbers > 0]):
            begin, end = self._ranges[number - 1]
            mask[: len(numbers), begin:end][numbers == number] = 1.0
        if not np.array_equal(mask, self._current):
            self._current = mask
            self.mask.set_data(Tensor(mask))
        return bool(numbers.any())


def add_adapters(decoder: Decoder, adapters: Mapping[str, Adapter], tokens: int) -> LoadedAdapters:
    """Give a network, or this process's part of it, all ``adapters``; without a choice it computes as before.

    Args:
        decoder: with the base model's weights.
        adapters: by name; they fit the network.
        tokens: the most that a step has.
    """
    tp, shapes = decoder.tp, decoder.config.linear_shapes()
    ranges, columns = _ranges(adapters)
    loaded = LoadedAdapters(ranges, columns, tokens)
    for name, linear in decoder.linears().items():
        if not any(name in adapter.updates for adapter in adapters.values()):
            continue
        outputs, inputs = shapes[split_layer(name)[1]]
        whole_a, whole_b = np.zeros((columns, inputs), np.float32), np.zeros((outputs, columns), np.float32)
        for (begin, _), adapter in zip(ranges.values(), adapters.values()):
            update = adapter.updates.get(name)
            if update is not None:
                whole_a[begin : begin + update.rank] = update.a
                whole_b[:, begin : begin + update.rank] = update.b * np.float32(update.scaling)
        own_a = tp.shard(whole_a, INPUT_AXIS if linear.shard is Shard.ROW else None)
        own_b = tp.shard(whole_b, OUTPUT_AXIS if linear.shard is Shard.COLUMN else None)
        a, b = (
            Parameter(Tensor(np.ascontiguousarray(own)), name=f"{name}.adapters.{matrix}", requires_grad=False)
            for matrix, own in ((LORA_A, own_a), (LORA_B, own_b))
        )
        linear.use(MultiLoRA(linear.method, a, b, loaded.mask))
    return loaded


def _ranges(adapters: Mapping[str, Adapter]) -> tuple[dict[str, tuple[int, int]], int]:
    """Each adapter's columns, as many as its largest rank; and how many there are in all."""
    ranges: dict[str, tuple[int, int]] = {}
    begin = 0
    for name, adapter in adapters.items():
        end = begin + max(update.rank for update in adapter.updates.values())
        ranges[name], begin = (begin, end), end
    return ranges, -(-begin // COLUMNS_PER_VECTOR) * COLUMNS_PER_VECTOR
