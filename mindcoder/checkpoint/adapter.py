"""Adapters in memory, and how low-rank updates are merged into a base model tensor by tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.mismatch import mismatch_error
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.stored_tensor import StoredTensor, convert_dtype, convert_finite
from mindcoder.data.text_format import TextFormat
from mindcoder.errors import UserError
from mindcoder.peft.options import PrefixOptions


@dataclass(frozen=True)
class Update:
    """The update of a linear layer's weight, ``scaling * b @ a``; float32 ``[rank, in]`` and ``[out, rank]``.

    With ``magnitude`` ``[out]`` (DoRA) the rows of the sum are rescaled to these norms.
    """

    a: np.ndarray
    b: np.ndarray
    scaling: float
    magnitude: np.ndarray | None = None

    @property
    def rank(self) -> int:
        """Rank of the update."""
        return self.a.shape[0]

    def added_to(self, weight: np.ndarray) -> np.ndarray:
        """The weight ``[out, in]`` with the update added, float32."""
        total = weight + (self.b @ self.a) * np.float32(self.scaling)
        if self.magnitude is not None:
            total *= (self.magnitude / np.linalg.norm(total, axis=1))[:, None]
        return total


@dataclass(frozen=True)
class Adapter:
    """Updates by the global name of their linear layer.

    Attributes:
        path: it was read from.
        base: location of the base model; empty if unknown.
        updates: by the global name of the layer.
        text_format: prompt template and tokenizer that it was trained with, if recorded.
    """

    path: Path
    base: str
    updates: Mapping[str, Update]
    text_format: TextFormat = TextFormat()

    @property
    def rank(self) -> int:
        """The most common rank."""
        return Counter(update.rank for update in self.updates.values()).most_common(1)[0][0]


@dataclass(frozen=True)
class Prefix:
    """A learned prefix: the parameters of its keys and values, by global name."""

    options: PrefixOptions
    plans: Mapping[str, TensorPlan]


def check_names(plans: Mapping[str, TensorPlan], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Compare the names and shapes of a checkpoint with the expected ones.

    Raises:
        UserError: lists the differences.
    """
    missing = [name for name in shapes if name not in plans]
    unexpected = [name for name in plans if name not in shapes]
    wrong = [
        f"{name} {list(plans[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if name in plans and plans[name].shape != shape
    ]
    if missing or unexpected or wrong:
        raise mismatch_error(path, {"missing": missing, "unexpected": unexpected, "of another shape": wrong})


@dataclass(frozen=True)
class MergedTensor(StoredTensor):
    """A weight with its update merged, computed in float32 when it is read and rounded once."""

    plan: TensorPlan | None = None
    update: Update | None = None

    @property
    def files(self) -> frozenset[Path]:
        """The files of the weight; those of the update are its adapter's."""
        assert self.plan is not None
        return frozenset(file for source in self.plan.sources for file in source.files)

    @property
    def is_plain(self) -> bool:
        """Always False: the merged values exist only in memory."""
        return False

    def read(self) -> np.ndarray:
        """The merged weight, in its own dtype."""
        assert self.plan is not None and self.update is not None
        weight = convert_dtype(self.plan.read(), self.plan.dtype, "F32")
        return convert_finite(self.update.added_to(weight), "F32", self.dtype, self.name)


def check_fit(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that an adapter fits the parameters of the base model.

    Raises:
        UserError: the adapter belongs to another network.
    """
    for linear, update in adapter.updates.items():
        name, shape = f"{linear}.weight", (update.b.shape[0], update.a.shape[1])
        if shapes.get(name) != shape:
            found = list(shapes[name]) if name in shapes else "no such layer"
            raise UserError(f"does not fit its base model: {name} is {list(shape)} here, there {found}", adapter.path)


def merge_plans(plans: Mapping[str, TensorPlan], adapter: Adapter) -> dict[str, TensorPlan]:
    """Plans of the base model's parameters with the adapter merged.

    Raises:
        UserError: the adapter belongs to another network.
    """
    check_fit(adapter, {name: plan.shape for name, plan in plans.items()})
    merged = dict(plans)
    for linear, update in adapter.updates.items():
        name = f"{linear}.weight"
        plan = plans[name]
        tensor = MergedTensor(name, plan.sources[0].file, plan.dtype, plan.shape, plan=plan, update=update)
        merged[name] = replace(plan, sources=(tensor,), build=None)
    return merged


def unmerged_plans(plans: Mapping[str, TensorPlan]) -> tuple[dict[str, TensorPlan], dict[str, Update]]:
    """The inverse of `merge_plans`: plans of the base model's parameters, and the updates by linear layer.

    DoRA's stay merged: they rescale the rows of the sum.
    """
    base, updates = dict(plans), {}
    for name, plan in plans.items():
        tensor = plan.sources[0] if plan.sources else None
        if isinstance(tensor, MergedTensor) and tensor.update is not None and tensor.update.magnitude is None:
            assert tensor.plan is not None
            base[name], updates[name.removesuffix(".weight")] = tensor.plan, tensor.update
    return base, updates
