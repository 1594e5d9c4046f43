"""Checkpoints of a run: written together by all processes, read back into the parts that each of them holds."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.layout import load_local_shards, local_shards
from mindcoder.checkpoint.load import check_architecture
from mindcoder.checkpoint.store import (
    MODEL,
    OPTIMIZER,
    Checkpoint,
    begin_checkpoint,
    discard_checkpoint,
    finish_checkpoint,
    newest_checkpoint,
    write_shards,
)
from mindcoder.data.loader import DataLayout, Position, convert_position
from mindcoder.data.text_format import STATE_KEY as TEXT_FORMAT
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.data_parallel import HostCollectives
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.train.identity import STATE_KEY as IDENTITY
from mindcoder.train.optimizer import AdamW
from mindcoder.train.options import TrainOptions
from mindcoder.train.precision import LossScale

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a run stands, beside its weights and optimizer states.

    Attributes:
        step: updates so far.
        position: of the next batch.
        loss_scale: for the next update.
    """

    step: int = 0
    position: Position = Position()
    loss_scale: LossScale = field(default_factory=LossScale)


class Checkpointing:
    """Saves and restores this process's part of a run.

    Args:
        decoder: the network, or this rank's part of it.
        optimizer: of its parameters.
        data: how the run batches its rows.
        options: of the run.
        comm: the process groups of the run.
    """

    def __init__(
        self, decoder: Decoder, optimizer: AdamW, data: DataLayout, options: TrainOptions, comm: ProcessGroups
    ) -> None:
        self.decoder, self.optimizer, self.data, self.options = decoder, optimizer, data, options
        self.mesh, self.host_comm = comm.mesh, HostCollectives(comm)

    def save(self, progress: Progress) -> Path:
        """Write a checkpoint; returns its folder.

        Raises:
            UserError: the disk is full.
        """
        mesh, root = self.mesh, self.options.checkpoint_root
        folder = root / f"step_{progress.step:08d}"
        model = local_shards(self.optimizer.parameters, self.decoder, mesh, False)
        states = self.optimizer.state().values()
        optimizer = local_shards(states, self.decoder, mesh, self.options.shard_optimizer)
        try:
            if mesh.rank == 0:
                begin_checkpoint(root, progress.step)
            self.host_comm.barrier()
            write_shards(folder, model, optimizer, mesh.rank if mesh.size > 1 else None)
            self.host_comm.barrier()
            if mesh.rank == 0:
                finish_checkpoint(folder, self._state(progress), self.options.keep)
            self.host_comm.barrier()
        except BaseException:
            if mesh.size == 1:  # other processes may still be writing; the next checkpoint cleans up
                discard_checkpoint(folder)
            raise
        return folder

    def _state(self, progress: Progress) -> dict[str, Any]:
        """What ``state.json`` holds."""
        options, network = self.options, self.decoder.config
        state = {
            "step": progress.step,
            "position": asdict(progress.position),
            "loss_scale": asdict(progress.loss_scale),
            "seed": options.seed,
            "data": asdict(self.data),
            "architecture": network.architecture(),
            "config": asdict(network),
            TEXT_FORMAT: options.text_format.as_dict(),
        }
        if options.identity is not None:
            state[IDENTITY] = options.identity.as_dict()
        if options.lora is not None:
            state["adapter"] = {"base": options.base, "options": asdict(options.lora)}
        if options.prefix is not None:
            state["adapter"] = {"base": options.base, "prefix": asdict(options.prefix)}
        return state

    def load(self, checkpoint: Checkpoint) -> Progress:
        """Read weights and optimizer states back; returns where the run continues.

        Raises:
            UserError: the checkpoint has other shapes or was made with another batch size.
        """
        state, folder = checkpoint.state, checkpoint.folder
        check_architecture(state, self.decoder.config, folder)
        try:
            position = convert_position(Position(**state["position"]), DataLayout(**state["data"]), self.data)
            loss_scale = LossScale(**state["loss_scale"])
        except ValueError as error:
            raise UserError(f"cannot resume at the same data position: {error}", folder) from None
        except (KeyError, TypeError) as error:
            raise UserError(f"state.json does not describe a run: {error}", folder) from None
        load_local_shards(self.optimizer.parameters, checkpoint.tensors(MODEL), self.decoder, folder)
        load_local_shards(self.optimizer.state().values(), checkpoint.tensors(OPTIMIZER), self.decoder, folder)
        return Progress(checkpoint.step, position, loss_scale)

    def rewind_target(self) -> Checkpoint | None:
        """The latest checkpoint to rewind to; None if none is intact, and the run continues without."""
        try:
            return newest_checkpoint(self.options.checkpoint_root)
        except UserError as error:
            log.warning("cannot rewind: %s", error)
            return None
