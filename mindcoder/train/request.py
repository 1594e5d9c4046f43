"""What is asked of a training run beside its configuration."""

from __future__ import annotations

from dataclasses import dataclass

# Groups of what determines a run's numbers; see `mindcoder.train.identity`.
CHANGE_GROUPS = ("data", "seed", "lr", "optimizer", "model", "objective")


@dataclass(frozen=True)
class TrainRequest:
    """Options beside the configuration.

    Attributes:
        resume: continue from the latest intact checkpoint of the output folder.
        overwrite: start from scratch although the output folder holds checkpoints.
        allowed: those of `CHANGE_GROUPS` that may have changed since the checkpoint.
    """

    resume: bool = False
    overwrite: bool = False
    allowed: frozenset[str] = frozenset()
