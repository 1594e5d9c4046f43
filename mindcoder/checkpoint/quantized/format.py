"""What a format says about how it stores a quantized linear layer; the formats are modules of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

DYNAMIC, STATIC = "dynamic", "static"  # of `Integers.activations`


@dataclass(frozen=True)
class Integers:
    """The integers that weights become.

    Attributes:
        bits: 8 or 4.
        symmetric: whether zero is the integer 0, else an offset for each scale.
        group_size: inputs that share a scale; 0 if all of an output do.
        activations: whether they become integers of 8 bits, too: ``dynamic``, each token by a scale of its own;
            ``static``, by one scale of all; empty if they do not.
        large: share of an output's weights that need more than 4 bits (W8A8S); 0 if there is no such rule.
    """

    bits: int
    symmetric: bool = True
    group_size: int = 0
    activations: str = ""
    large: float = 0.0

    @property
    def lowest(self) -> int:
        """The smallest integer."""
        return -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        """The largest integer."""
        return (1 << (self.bits - 1)) - 1

    @property
    def method(self) -> str:
        """The field's name: ``W8A16``; msModelSlim's where activations become integers."""
        return method_name(self.bits, self.activations, self.large > 0)

    def groups(self, inputs: int) -> int:
        """Scales of an output with so many inputs."""
        return inputs // self.group_size if self.group_size else 1

    def __str__(self) -> str:
        groups = f" in groups of {self.group_size}" if self.group_size else ""
        return f"{self.method}{groups}{'' if self.symmetric else ', asymmetric'}"


def method_name(bits: int, activations: str, is_sparse: bool = False) -> str:
    """Name of weights of ``bits`` with such `Integers.activations`.

    Args:
        is_sparse: whether most weights fit into 4 bits.
    """
    if not activations:
        return f"W{bits}A16"
    return f"W{bits}A8{'_DYNAMIC' if activations == DYNAMIC else ''}{'S' if is_sparse else ''}"


@dataclass(frozen=True)
class LayerShape:
    """A linear layer to be stored.

    Attributes:
        module: Hugging Face's name.
        outputs, inputs: of its weight.
        dtype: of its weight in floating point, a safetensors name.
    """

    module: str
    outputs: int
    inputs: int
    dtype: str


@dataclass(frozen=True)
class CacheShape:
    """The keys and values of a layer.

    Attributes:
        layer: its number.
        key, value: Hugging Face's names of the modules that compute them, the same if one computes both.
        heads, head_dim: of each.
    """

    layer: int
    key: str
    value: str
    heads: int
    head_dim: int

    @property
    def channels(self) -> int:
        """Numbers of a token's keys."""
        return self.heads * self.head_dim

    @property
    def is_fused(self) -> bool:
        """Whether one module computes keys and values."""
        return self.key == self.value

    @property
    def attention(self) -> str:
        """The module that both are in."""
        return self.key.rpartition(".")[0]


@dataclass(frozen=True)
class TensorForm:
    """Name, dtype and shape of a tensor in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SmallTensor:
    """What is stored beside the integers of a layer.

    Attributes:
        form: in the file.
        make: its values (bfloat16 as bits) from scales and offsets, float32 ``[out, groups]``.
    """

    form: TensorForm
    make: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class StaticInput:
    """How all activations of a layer become integers: ``round(x / scale + offset)``.

    Attributes:
        scale, offset: the latter a whole number.
        sums: int32 ``[out]``, of the integers of each output of the weight.
        bias: float32 ``[out]`` of the layer; None if it has none.
    """

    scale: float
    offset: float
    sums: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class InputTensor:
    """What is stored beside the integers of a layer for its activations.

    Attributes:
        form: in the file.
        make: its values from the weight's scales, float32 ``[out, 1]``, and how activations become integers.
    """

    form: TensorForm
    make: Callable[[np.ndarray, StaticInput], np.ndarray]


class QuantizedFormat(ABC):
    """A format that quantized models are written in.

    Attributes:
        name: as ``--format`` takes it.
        stem: of its weight files' names.
        has_input_offset: whether activations with one scale may have an offset.
    """

    name: ClassVar[str]
    stem: ClassVar[str]
    has_input_offset: ClassVar[bool] = False

    @abstractmethod
    def check(self, integers: Integers) -> None:
        """Refuse integers that the format does not have.

        Raises:
            UserError: names them, and the format that has them.
        """

    @abstractmethod
    def scale_dtype(self, layer: LayerShape) -> str:
        """Dtype that a layer's scales are stored in; they are rounded to it before the weight is quantized."""

    @abstractmethod
    def weight(self, layer: LayerShape, integers: Integers) -> TensorForm:
        """The tensor of the integers."""

    @abstractmethod
    def encode(self, numbers: np.ndarray, integers: Integers) -> np.ndarray:
        """Rows of integers, int8 ``[rows, in]``, as the tensor has them."""

    @abstractmethod
    def beside(self, layer: LayerShape, integers: Integers) -> list[SmallTensor]:
        """The tensors beside the integers."""

    @abstractmethod
    def beside_static(self, layer: LayerShape, integers: Integers) -> list[InputTensor]:
        """The further tensors where activations are ``static``."""

    def cache_scales(
        self, shape: CacheShape, key: np.ndarray, value: np.ndarray
    ) -> list[tuple[TensorForm, np.ndarray]]:
        """The tensors with the scales of a layer's KV cache in int8.

        Args:
            key, value: largest magnitude of each channel, float32 ``[K*D]``.

        Raises:
            NotImplementedError: the format has none.
        """
        raise NotImplementedError

    def describe_cache(self, folder: Path, config: Mapping[str, Any], tensors: Sequence[str]) -> dict[str, Any]:
        """Add to what `describe` has written that ``tensors`` are scales of the KV cache; gives ``config.json``."""
        raise NotImplementedError

    @abstractmethod
    def describe(
        self,
        folder: Path,
        config: Mapping[str, Any],
        integers: Integers,
        layers: Sequence[LayerShape],
        floats: Sequence[str],
        ignored: Sequence[str],
    ) -> dict[str, Any]:
        """Write the format's description into ``folder``, and give the ``config.json`` that belongs to it.

        Args:
            config: ``config.json`` of the model in floating point.
            layers: those in integers.
            floats: names of the other tensors.
            ignored: linear modules that stay in floating point.
        """
