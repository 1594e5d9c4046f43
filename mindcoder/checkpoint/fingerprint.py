"""Digest of weights that depends on the parameters only, not on the files they are stored in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.adapter import MergedTensor
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.weights import Weights


def weights_digest(plans: Mapping[str, TensorPlan]) -> str:
    """SHA-256 over names, shapes, dtypes and values of parameters, with one tensor in memory at a time."""
    total = hashlib.sha256()
    for name in sorted(plans):
        plan = plans[name]
        total.update(f"{name} {list(plan.shape)} {plan.dtype}\n".encode())
        total.update(np.ascontiguousarray(plan.read()).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def weight_files(weights: Weights, plans: Mapping[str, TensorPlan]) -> list[Path]:
    """The files that determine the values of ``plans``, sorted, including those of an adapter."""
    files = {file for plan in plans.values() for file in _sources(plan)}
    if weights.kind == "adapter":
        files |= {file for file in weights.path.iterdir() if file.is_file()}
    return sorted(files)


def _sources(plan: TensorPlan) -> Iterator[Path]:
    for piece in plan.sources:
        yield piece.file
        if isinstance(piece, MergedTensor) and piece.plan is not None:
            yield from _sources(piece.plan)
