"""Plans of tensors: which stored tensors they are built from, and how."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

import numpy as np

from mindcoder.checkpoint.stored_tensor import (
    COPY_BYTES,
    FLOAT_DTYPES,
    Progress,
    StoredTensor,
    byte_count,
    convert_finite,
    no_progress,
)

Build = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Joined:
    """A `Build` that concatenates its sources along an axis, so that a part can be read without the rest."""

    axis: int

    def __call__(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts, self.axis)


@dataclass(frozen=True)
class TensorPlan:
    """One tensor to be written or loaded.

    Without ``build`` it is its single source, whose first axis is truncated or zero-padded to ``shape[0]`` rows.
    ``build`` may only move values, never compute with them: it sees bfloat16 as bits. Reading and writing refuse
    numbers that are too large for ``dtype`` (`UserError`, with ``name``).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sources: tuple[StoredTensor, ...]
    build: Build | None = None

    @property
    def nbytes(self) -> int:
        """Size of the result in bytes."""
        return byte_count(self.shape, self.dtype)

    def with_dtype(self, dtype: str | None) -> TensorPlan:
        """The same values in another float dtype; integer tensors are unchanged."""
        if dtype is None or self.dtype not in FLOAT_DTYPES:
            return self
        return replace(self, dtype=dtype)

    def read(self) -> np.ndarray:
        """The whole result (bfloat16 as bits)."""
        parts = [convert_finite(source.read(), source.dtype, self.dtype, self.name) for source in self.sources]
        if self.build is not None:
            return np.ascontiguousarray(self.build(parts))
        return _fit_rows(parts[0], self.shape)

    def read_part(self, axis: int, begin: int, end: int) -> np.ndarray:
        """Indices ``begin`` to ``end`` of an axis (bfloat16 as bits), without reading the rest where possible."""
        if isinstance(self.build, Joined) and begin < end:
            return self._read_joined(self.build, axis, begin, end)
        if self.build is None and self.sources[0].shape == self.shape:
            source = self.sources[0]
            return convert_finite(source.read_part(axis, begin, end), source.dtype, self.dtype, self.name)
        return np.ascontiguousarray(self.read()[(*(slice(None) for _ in range(axis)), slice(begin, end))])

    def _read_joined(self, joined: Joined, axis: int, begin: int, end: int) -> np.ndarray:
        pieces, start = [], 0
        for source in self.sources:
            low, high = begin, end
            if axis == joined.axis:
                low, high = max(begin - start, 0), min(end - start, source.shape[axis])
                start += source.shape[axis]
            if low < high:
                part = source.read_part(axis, low, high)
                pieces.append(convert_finite(part, source.dtype, self.dtype, self.name))
        return pieces[0] if len(pieces) == 1 else joined(pieces)

    def write(self, out: BinaryIO, progress: Progress = no_progress) -> None:
        """Append the result's bytes to ``out`` (unbuffered), in pieces if nothing has to be rearranged."""
        if self.build is not None:
            write_all(out, self.read(), progress)
            return
        source, left = self.sources[0], math.prod(self.shape)
        if source.dtype == self.dtype and source.is_plain:
            source.copy_bytes(out, self.nbytes, progress)
        else:
            for piece in source.chunks():
                write_all(out, convert_finite(piece[:left], source.dtype, self.dtype, self.name), progress)
                left -= min(left, len(piece))
        for _ in range(math.prod(source.shape[:1]), self.shape[0] if self.shape else 0):
            write_all(out, np.zeros(self.nbytes // self.shape[0], np.uint8), progress)


class FoundPlans(NamedTuple):
    """Plans of a network's parameters that files hold, and how their contents differ from the network.

    Attributes:
        plans: by global name.
        missing: names of what is not there: Hugging Face's, if the files have those; global ones otherwise.
        unexpected: stored names that belong to no parameter.
    """

    plans: dict[str, TensorPlan]
    missing: list[str]
    unexpected: list[str]

    @classmethod
    def by_name(cls, stored: Mapping[str, TensorPlan], expected: Iterable[str]) -> FoundPlans:
        """Of tensors that are stored under the global names."""
        names = dict.fromkeys(expected)
        return cls(
            {name: plan for name, plan in stored.items() if name in names},
            [name for name in names if name not in stored],
            [name for name in stored if name not in names],
        )


def stored_pieces(plans: Mapping[str, TensorPlan]) -> dict[str, StoredTensor]:
    """The stored tensors that plans are built from."""
    return {f"{plan.name} in {piece.file.name}": piece for plan in plans.values() for piece in plan.sources}


def _fit_rows(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Truncate or zero-pad the first axis."""
    if values.shape == shape:
        return values
    fitted = np.zeros(shape, values.dtype)
    rows = min(len(values), shape[0])
    fitted[:rows] = values[:rows]
    return fitted


def write_all(out: BinaryIO, values: np.ndarray, progress: Progress) -> None:
    """Append the bytes of an array to ``out`` (unbuffered)."""
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    for start in range(0, len(data), COPY_BYTES):
        piece = data[start : start + COPY_BYTES]
        while len(piece):  # an unbuffered write may be partial
            written = out.write(piece)
            progress(written)
            piece = piece[written:]
