"""The checkpoint that a run resumes from."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from mindcoder.checkpoint.store import (
    Checkpoint,
    find_checkpoint,
    list_steps,
    newest_checkpoint,
    open_step,
    step_folder,
)
from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError
from mindcoder.parallel.data_parallel import HostCollectives
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.peft.from_section import lora_options
from mindcoder.train.build import checkpoint_root
from mindcoder.train.divided_check import DividedCheck
from mindcoder.train.request import TrainRequest

log = logging.getLogger(__name__)


def resume_source(config: RunConfig, request: TrainRequest, comm: ProcessGroups) -> Checkpoint | None:
    """The checkpoint that all processes resume from, or None for a fresh start; rank 0 finds it.

    Raises:
        UserError: it is damaged or not there, or there are checkpoints that must not be overwritten.
    """
    root, mesh = checkpoint_root(config), comm.mesh
    location = _resume_location(config, request, root)
    check = DividedCheck(HostCollectives(comm), mesh.rank, mesh.size)
    if mesh.rank > 0:
        folder = root if location is None else location
        step = check.follow(lambda step: step_folder(folder, step))
        return None if step is None else open_step(folder, step)
    found: Checkpoint | None = None
    if location is None:
        _remove_old_checkpoints(root, request)
    elif location == root:
        found = newest_checkpoint(root, check)
        if found is None:
            log.warning("%s has no complete checkpoint: starting from scratch", root)
    else:
        found = find_checkpoint(location, check)
        if found is None:
            raise UserError("holds weights but no training state to resume", location)
    check.settle(found)
    return found


def _resume_location(config: RunConfig, request: TrainRequest, root: Path) -> str | Path | None:
    """Where to look for a checkpoint; None for a fresh start."""
    if isinstance(config.resume_training, str):
        return config.resume_training
    # that is the base of an adapter
    if config.resume_training and config.load_checkpoint and lora_options(config) is None:
        return config.load_checkpoint
    return root if request.resume or config.resume_training else None


def _remove_old_checkpoints(root: Path, request: TrainRequest) -> None:
    """Remove the checkpoints of an earlier run if the request allows it.

    Raises:
        UserError: it does not.
    """
    steps = list_steps(root)
    if steps and not request.overwrite:
        raise UserError(
            f"already holds checkpoints up to {steps[-1].name}: add --resume to continue, --overwrite to "
            "start anew, or give another output_dir",
            root,
        )
    for folder in steps:
        shutil.rmtree(folder)
