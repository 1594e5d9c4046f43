"""Digest of weights that depends on the parameters only, not on the files they are stored in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from mindcoder.checkpoint.plan import TensorPlan


def weights_digest(plans: Mapping[str, TensorPlan]) -> str:
    """SHA-256 over names, shapes, dtypes and values of parameters, with one tensor in memory at a time."""
    total = hashlib.sha256()
    for name in sorted(plans):
        plan = plans[name]
        total.update(f"{name} {list(plan.shape)} {plan.dtype}\n".encode())
        total.update(np.ascontiguousarray(plan.read()).reshape(-1).view(np.uint8).data)
    return total.hexdigest()
