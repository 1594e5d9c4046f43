"""The tensors of a folder that hold the scales of a static int8 KV cache, under the names of its format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.kv_scales import ChannelScales, KvScales
from mindcoder.checkpoint.quantized.format import CacheShape
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES, StoredTensor, convert_dtype
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig

C8 = "C8"  # msModelSlim's name for keys and values in 8 bits
SCALE, OFFSET = "kv_cache_scale", "kv_cache_offset"
SUFFIXES = (f".{SCALE}", f".{OFFSET}")
PROJECTIONS = ("k_proj", "v_proj")
ATTENTION_SCALES = ("k_scale", "v_scale")  # compressed-tensors': of an attention, not of its projections


def cache_shapes(config: TransformerConfig, names: Iterable[str]) -> Iterator[CacheShape]:
    """The modules that compute keys and values of each layer, under Hugging Face's names.

    Args:
        names: of tensors or modules of the folder; those of a bare transformer lack the whole model's prefix.
    """
    table = family_of(config.model_type).weights
    lacking = "" if any(name.startswith(table.prefix) for name in names) else table.prefix
    modules = {
        name: rule.huggingface.removesuffix(".weight").removeprefix(lacking)
        for rule in table.expand(config)
        for name in rule.ours
    }
    for layer in range(config.num_layers):
        key, value = (modules[f"layers.{layer}.attention.{kind}.weight"] for kind in ("key", "value"))
        yield CacheShape(layer, key, value, config.num_kv_heads, config.head_dim)


@dataclass(frozen=True)
class KvTensors:
    """The tensors of a layer.

    Attributes:
        shape: of the cache.
        scales: of keys and of values: one number, one for each head or one for each channel.
        offsets: the same; None without.
    """

    shape: CacheShape
    scales: tuple[StoredTensor, StoredTensor]
    offsets: tuple[StoredTensor, StoredTensor] | None = None

    def read(self) -> KvScales:
        """The scales of all channels.

        Raises:
            UserError: scales are not above zero, or offsets are not whole numbers.
        """
        offsets: tuple[StoredTensor | None, ...] = (None, None) if self.offsets is None else self.offsets
        key, value = (self._read(scale, offset) for scale, offset in zip(self.scales, offsets))
        return KvScales(key, value)

    def _read(self, scale: StoredTensor, offset: StoredTensor | None) -> ChannelScales:
        scales = self._channels(scale)
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise UserError(f"{scale.name}: found {scales.min():g}, expected numbers above 0", scale.file)
        if offset is None:
            return ChannelScales(scales, np.zeros_like(scales))
        offsets = self._channels(offset)
        if not (np.isfinite(offsets).all() and (offsets == np.rint(offsets)).all()):
            raise UserError(f"{offset.name}: expected whole numbers", offset.file)
        return ChannelScales(scales, offsets)

    def _channels(self, tensor: StoredTensor) -> np.ndarray:
        """The tensor's numbers, each as often as it has channels."""
        values = convert_dtype(tensor.read(), tensor.dtype, "F32").reshape(-1)
        return np.repeat(values, self.shape.channels // len(values))


def slim_names(shape: CacheShape, part: str) -> tuple[str, str]:
    """msModelSlim's names of a layer's ``part`` (`SCALE` or `OFFSET`), of keys and of values."""
    modules = [f"{shape.key}.{name}" for name in PROJECTIONS] if shape.is_fused else [shape.key, shape.value]
    return f"{modules[0]}.{part}", f"{modules[1]}.{part}"


def attention_names(shape: CacheShape) -> tuple[str, str]:
    """compressed-tensors' names of a layer's scales, of keys and of values."""
    return f"{shape.attention}.{ATTENTION_SCALES[0]}", f"{shape.attention}.{ATTENTION_SCALES[1]}"


def find_slim_tensors(
    tensors: Mapping[str, StoredTensor], config: TransformerConfig, path: Path
) -> dict[int, KvTensors]:
    """msModelSlim's, by layer.

    Raises:
        UserError: one is missing or of another shape.
    """
    found = {}
    for shape in cache_shapes(config, tensors):
        if shape.is_fused and slim_names(shape, SCALE)[0] not in tensors:  # the newer tool knows no fused modules
            key, value = (f"{shape.attention}.{name}" for name in PROJECTIONS)
            shape = replace(shape, key=key, value=value)
        scales, offsets = (_pair(slim_names(shape, part), tensors, path) for part in (SCALE, OFFSET))
        for tensor in (*scales, *offsets):
            _check(tensor, (1, shape.channels), shape)
        found[shape.layer] = KvTensors(shape, scales, offsets)
    return found


def find_attention_scales(
    tensors: Mapping[str, StoredTensor], config: TransformerConfig, by_head: bool, path: Path
) -> dict[int, KvTensors]:
    """compressed-tensors', by layer.

    Args:
        by_head: whether each head has a scale.

    Raises:
        UserError: one is missing or of another shape.
    """
    found = {}
    for shape in cache_shapes(config, tensors):
        scales = _pair(attention_names(shape), tensors, path)
        for tensor in scales:
            _check(tensor, (shape.heads,) if by_head else (1,), shape)
        found[shape.layer] = KvTensors(shape, scales)
    return found


def _pair(names: tuple[str, str], tensors: Mapping[str, StoredTensor], path: Path) -> tuple[StoredTensor, StoredTensor]:
    for name in names:
        if name not in tensors:
            raise UserError(f"{name} is missing; keys and values in int8 have scales in every layer", path)
    return tensors[names[0]], tensors[names[1]]


def _check(tensor: StoredTensor, counts: tuple[int, ...], shape: CacheShape) -> None:
    """Refuse another dtype than numbers, and another count of them."""
    count = int(np.prod(tensor.shape, dtype=int))
    if tensor.dtype not in (*FLOAT_DTYPES, "I32", "I8") or count not in counts:
        expected = " or ".join(map(str, counts))
        raise UserError(
            f"{tensor.name} is {tensor.dtype} {list(tensor.shape)}, expected {expected} numbers, for {shape.heads} key "
            f"heads of {shape.head_dim}",
            tensor.file,
        )
