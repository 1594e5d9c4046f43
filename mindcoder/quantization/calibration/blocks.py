"""Runs a model one decoder layer at a time, and records what its linear layers multiply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindcoder.errors import UserError
from mindcoder.families.parameter_names import in_layer, split_layer
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.decoder import Decoder
from mindcoder.models.linear import Linear
from mindcoder.models.methods.dense import Dense
from mindcoder.models.stage import Stage
from mindcoder.quantization.calibration.statistics import ChannelRange, InputRecord, InputStatistics
from mindcoder.quantization.calibration.texts import TokenRow


@dataclass(frozen=True)
class BlockStatistics:
    """What a decoder layer computed on the calibration texts.

    Attributes:
        inputs: of each linear layer, by its name in the decoder layer.
        key, value: as they enter a cache, ``[kv_size]``: keys are rotated already.
    """

    inputs: Mapping[str, InputStatistics]
    key: ChannelRange
    value: ChannelRange


def calibration_network(config: TransformerConfig) -> TransformerConfig:
    """The network that is calibrated: in float32 everywhere, without dropout or padding of the vocabulary.

    Raises:
        UserError: its layers are not alike, which calibration layer by layer expects.
    """
    if config.no_rope_layers:
        raise UserError(
            f"calibration: expected layers that are alike, found layers {list(config.no_rope_layers)} without rotary "
            "positions; methods that need no texts quantize this model"
        )
    return replace(
        config.without_dropout(),
        padded_vocab_size=0,
        embedding_dtype="",
        param_dtype="float32",
        compute_dtype="float32",
        norm_dtype="float32",
        softmax_dtype="float32",
    )


def input_groups(config: TransformerConfig) -> list[tuple[str, ...]]:
    """The linear layers of a decoder layer, those that read the same inputs together."""
    folds = family_of(config.model_type).scale_folds(config)
    shared = [fold.targets for fold in folds if fold.is_norm]
    alone = [name for name in config.linear_shapes() if not any(name in names for names in shared)]
    return [*shared, *((name,) for name in alone)]


class RecordingDense(Dense):
    """A weight whose inputs are kept: ``inputs``, float32 ``[Q, in]``, those of the last step."""

    def __init__(self, base: Dense, tokens: int) -> None:
        super().__init__(base.weight, base.compute_dtype)
        self.inputs = _kept(f"{base.weight.name}.inputs", tokens, base.weight.shape[1])

    def multiply(self, x: Tensor, operands: tuple) -> Tensor:
        """``x @ weight.T``."""
        return self.matmul(ops.depend(x, ops.assign(self.inputs, x)), operands[0])


class RecordingAttention(nn.Cell):
    """The core of an attention whose keys and values are kept, those of the last step ``[Q, K*D]``."""

    def __init__(self, core: nn.Cell, tokens: int, kv_size: int) -> None:
        super().__init__(auto_prefix=False)
        self.core = core
        self.key, self.value = _kept("attention.keys", tokens, kv_size), _kept("attention.values", tokens, kv_size)

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, seed: Tensor, batch: int, length: int, total: int
    ) -> Tensor:
        key = ops.depend(key, ops.assign(self.key, key))
        value = ops.depend(value, ops.assign(self.value, value))
        return self.core(query, key, value, mask, seed, batch, length, total)


def _kept(name: str, tokens: int, channels: int) -> Parameter:
    return Parameter(Tensor(np.zeros((tokens, channels), np.float32)), name=name, requires_grad=False)


class _Embed(nn.Cell):
    """Hidden states that enter the first layer: ``construct(ids [1, S], position_ids [1, S]) -> [S, H]``."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = decoder

    def construct(self, ids: Tensor, position_ids: Tensor, seed: Tensor) -> Tensor:
        return self.decoder.embed(self.decoder.embed_tokens(ids), position_ids, seed)


def embedded(
    config: TransformerConfig, rows: Sequence[TokenRow], read: Callable[[str], np.ndarray]
) -> list[np.ndarray]:
    """Hidden states of each row that enter the first layer, float32 ``[length, H]``.

    Args:
        read: gives a parameter by its global name.
    """
    decoder = Decoder(config, empty=True, stage=Stage(range(0), is_last=False))
    for parameter in decoder.get_parameters():
        parameter.set_data(Tensor(np.ascontiguousarray(read(parameter.name), np.float32)))
    embed, seed = _Embed(decoder), Tensor(0, ms.int32)
    return [embed(Tensor(row.ids[None]), Tensor(row.positions[None]), seed).asnumpy() for row in rows]


class CacheRecord:
    """Largest magnitudes of a layer's keys, as they enter a cache, and values: float32 ``[K*D]``.

    Args:
        channels: K*D.
    """

    def __init__(self, channels: int) -> None:
        self.key, self.value = np.zeros(channels, np.float32), np.zeros(channels, np.float32)

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Add a row's, float32 ``[Q, K*D]``."""
        np.maximum(self.key, np.abs(keys).max(0), out=self.key)
        np.maximum(self.value, np.abs(values).max(0), out=self.value)


class BlockRunner:
    """One decoder layer, compiled once; the weights of one layer after another are put into it.

    Args:
        config: see `calibration_network`; all layers of it are alike.
        rows: to compute.
    """

    def __init__(self, config: TransformerConfig, rows: Sequence[TokenRow]) -> None:
        self.rows = rows
        self._block = Decoder(config, empty=True, stage=Stage(range(1), is_first=False, is_last=False))
        self._parameters = {split_layer(item.name)[1]: item for item in self._block.get_parameters()}
        self._groups, self._kv_size, tokens = input_groups(config), config.kv_size, len(rows[0].ids)
        linears = self._block.linears()
        self._recorded = {names: _record(linears[in_layer(0, names[0])], tokens) for names in self._groups}
        attention = self._block.layers[0].attention
        self._attention = attention.core = RecordingAttention(attention.core, tokens, config.kv_size)
        self._seed = Tensor(0, ms.int32)

    def load(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Put the weights of a layer in, by their names within it (``attention.query.weight``)."""
        for name, parameter in self._parameters.items():
            parameter.set_data(Tensor(np.ascontiguousarray(parameters[name], np.float32)))

    def run(self, hidden_states: Sequence[np.ndarray], cache: CacheRecord | None = None) -> list[np.ndarray]:
        """The layer's output for each row, float32 ``[length, H]``, from that of the layer before.

        Args:
            cache: takes the keys and values on the way.
        """
        outputs = []
        for row, states in zip(self.rows, hidden_states):
            outputs.append(self._step(row, states))
            if cache is not None:
                cache.add(self._attention.key.asnumpy()[: row.used], self._attention.value.asnumpy()[: row.used])
        return outputs

    def first_output(self, states: np.ndarray) -> np.ndarray:
        """The layer's output for the first row alone, float32 ``[used tokens, H]``."""
        return self._step(self.rows[0], states)[: self.rows[0].used]

    def record(self, hidden_states: Sequence[np.ndarray]) -> BlockStatistics:
        """What the linear layers multiply on the way."""
        records = {
            names: InputRecord(method.weight.shape[1], len(self.rows)) for names, method in self._recorded.items()
        }
        ranges = [(np.full(self._kv_size, np.inf), np.full(self._kv_size, -np.inf)) for _ in range(2)]
        for row, states in zip(self.rows, hidden_states):
            self._step(row, states)
            for names, method in self._recorded.items():
                records[names].add(method.inputs.asnumpy()[: row.used])
            for (low, high), seen in zip(ranges, (self._attention.key, self._attention.value)):
                values = seen.asnumpy()[: row.used]
                np.minimum(low, values.min(0), out=low)
                np.maximum(high, values.max(0), out=high)
        found = {names: record.statistics() for names, record in records.items()}
        inputs = {name: statistics for names, statistics in found.items() for name in names}
        key, value = (ChannelRange(low.astype(np.float32), high.astype(np.float32)) for low, high in ranges)
        return BlockStatistics(inputs, key, value)

    def _step(self, row: TokenRow, states: np.ndarray) -> np.ndarray:
        inputs = (Tensor(states), Tensor(row.positions[None]), Tensor(row.texts[None]), self._seed)
        return self._block(*inputs).asnumpy()


def _record(linear: Linear, tokens: int) -> RecordingDense:
    method = RecordingDense(linear.method, tokens)
    linear.use(method)
    return method
