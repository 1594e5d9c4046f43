"""The training loop."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindcoder.backend.device import resident_bytes
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
from mindcoder.data.encode import IGNORED_LABEL
from mindcoder.data.loader import Batch, BatchLoader, DataLayout, Loader, Position, convert_position
from mindcoder.data.text_format import STATE_KEY as TEXT_FORMAT
from mindcoder.errors import UserError
from mindcoder.graph_lock import GRAPH_LOCK
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.data_parallel import HostCollectives
from mindcoder.parallel.process_groups import ProcessGroups, single_process
from mindcoder.parallel.zero1 import owners
from mindcoder.peft.lora import rate_ratios
from mindcoder.train.callbacks.base import Callback, StepRecord
from mindcoder.train.evaluate import EvalResult, build_eval_step, evaluate
from mindcoder.train.health import LossHealth
from mindcoder.train.identity import STATE_KEY as IDENTITY
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.options import TrainOptions
from mindcoder.train.pipeline_step import PipelineStep
from mindcoder.train.precision import LossScale
from mindcoder.train.schedule import Schedule
from mindcoder.train.step import MicroBatch, Step, TrainStep

log = logging.getLogger(__name__)


class Trainer:
    """Training loop over data, one compiled step, schedule, evaluation and checkpoints.

    Args:
        decoder: the network, with its initial weights.
        loader: training batches.
        optimizer: AdamW's hyperparameters.
        schedule: learning rate.
        loss_scale: for float16; scale 1 and factor 1 otherwise.
        options: everything else.
        callbacks: notified of training events.
        eval_loader: evaluation batches, if any.
        comm: the process groups of the run; the loaders return this rank's part.
        reference: of DPO, float32 ``[rows of the dataset, 2]``.
    """

    def __init__(
        self,
        decoder: Decoder,
        loader: Loader,
        optimizer: AdamWOptions,
        schedule: Schedule,
        loss_scale: LossScale,
        options: TrainOptions,
        callbacks: Sequence[Callback] = (),
        eval_loader: BatchLoader | None = None,
        comm: ProcessGroups | None = None,
        reference: np.ndarray | None = None,
    ) -> None:
        self.reference = reference
        self.health = LossHealth(options.health, options.checkpoint_root.parent / "health.jsonl")
        self.decoder, self.loader, self.eval_loader = decoder, loader, eval_loader
        self.schedule, self.loss_scale, self.options = schedule, loss_scale, options
        self.callbacks = list(callbacks)
        comm = comm or single_process()
        self.mesh, self.host_comm = comm.mesh, HostCollectives(comm)
        self.optimizer = self._build_optimizer(optimizer, comm)
        self.train_step = self._build_step(comm)
        self.eval_step = build_eval_step(decoder, comm) if eval_loader else None
        self.step = 0
        self.position = Position()
        self.updates = 0  # by this process, not counting those before a resume
        self._stop_signal: int | None = None
        self._stopped = False

    def _build_optimizer(self, options: AdamWOptions, comm: ProcessGroups) -> AdamW:
        parameters = ms.ParameterTuple(self.decoder.trainable_params())
        lora = self.options.lora
        ratios = rate_ratios(parameters, lora) if lora else None
        if not self.options.shard_optimizer or self.mesh.data == 1:
            return AdamW(parameters, options, rate_ratios=ratios)
        owner = owners([tuple(item.shape) for item in parameters], self.mesh.data)
        owned = [rank == self.mesh.data_index for rank in owner]
        return AdamW(parameters, options, owned, comm.all_reduce_among(self.mesh.data_ranks()), ratios)

    def _build_step(self, comm: ProcessGroups) -> Step:
        options, scaled = self.options, self.loss_scale.scales
        if self.mesh.pipeline > 1:
            return PipelineStep(self.decoder, self.optimizer, options.max_grad_norm, scaled, options.recompute, comm)
        accumulates = options.accumulate > 1
        return TrainStep(
            self.decoder,
            self.optimizer,
            options.max_grad_norm,
            accumulates,
            scaled,
            options.recompute,
            comm,
            options.preference,
            options.head_tokens is not None,
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue after ``checkpoint``: weights, optimizer, schedule, loss scale and data position.

        Raises:
            UserError: the checkpoint has other shapes or was made with another batch size.
        """
        state = checkpoint.state
        check_architecture(state, self.decoder.config, checkpoint.folder)
        try:
            position = convert_position(Position(**state["position"]), DataLayout(**state["data"]), self._data_layout())
            loss_scale = LossScale(**state["loss_scale"])
        except ValueError as error:
            raise UserError(f"cannot resume at the same data position: {error}", checkpoint.folder) from None
        except (KeyError, TypeError) as error:
            raise UserError(f"state.json does not describe a run: {error}", checkpoint.folder) from None
        folder = checkpoint.folder
        load_local_shards(self.optimizer.parameters, checkpoint.tensors(MODEL), self.decoder, folder)
        load_local_shards(self.optimizer.state().values(), checkpoint.tensors(OPTIMIZER), self.decoder, folder)
        self.step = checkpoint.step
        self.position = position
        self.loss_scale = loss_scale

    @property
    def finished(self) -> bool:
        """Whether all updates of the run are done."""
        return self.step >= self.options.total_steps or self.position.epoch >= self.options.epochs

    def run(self) -> EvalResult | None:
        """Train to the end or until SIGTERM, SIGINT or SIGHUP (which save first); returns the last evaluation.

        Raises:
            UserError: the loss is not finite and no loss scale can help; the disk is full.
        """
        result = None
        saved = evaluated = -1
        self.train_step.set_train(True)
        with self._signals():
            try:
                self._notify("on_start", self.step, self.options.total_steps)
                for batches, position in self._steps():
                    labels, stops = self.host_comm.all_reduce(
                        sum(map(self._loss_weight, batches)), self._stop_signal is not None
                    )
                    if stops:  # all processes see the same sum, so all of them stop before the same update
                        self._stopped = True
                        break
                    with GRAPH_LOCK:
                        record = self._update(batches, position, labels)
                    self._notify("on_step", record)
                    self._handle_bad_loss(record, batches)
                    if self.options.eval_every and self.step % self.options.eval_every == 0:
                        result, evaluated = self._evaluate(), self.step
                    if self.options.save_every and self.step % self.options.save_every == 0:
                        self.save()
                        saved = self.step
                if saved != self.step and self.step > 0:
                    self.save()
                if evaluated != self.step and not self._stopped:
                    result = self._evaluate()
            finally:
                self._notify("on_end")
        if self._stopped:
            name = signal.Signals(self._stop_signal).name if self._stop_signal else "a signal to another process"
            log.warning("%s: %s", name, self._where_stopped())
        return result

    def _where_stopped(self) -> str:
        if self.step == 0:
            return "stopped before the first step; nothing was saved"
        return f"stopped after step {self.step}, checkpoint saved; --resume continues"

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal that ended the run early (shell convention), so that a scheduler does not take it for
        done.

        If another process got the signal it counts as SIGTERM, which is what the launcher forwards. So does Ctrl-C
        while a graph runs: MindSpore's handler sends the process SIGTERM.
        """
        return 128 + (self._stop_signal or signal.SIGTERM) if self._stopped else 0

    def save(self) -> Path:
        """Write a checkpoint of the current step."""
        state = {
            "step": self.step,
            "position": asdict(self.position),
            "loss_scale": asdict(self.loss_scale),
            "seed": self.options.seed,
            "data": asdict(self._data_layout()),
            "architecture": self.decoder.config.architecture(),
            "config": asdict(self.decoder.config),
            TEXT_FORMAT: self.options.text_format.as_dict(),
        }
        if self.options.identity is not None:
            state[IDENTITY] = self.options.identity.as_dict()
        if self.options.lora is not None:
            state["adapter"] = {"base": self.options.base, "options": asdict(self.options.lora)}
        if self.options.prefix is not None:
            state["adapter"] = {"base": self.options.base, "prefix": asdict(self.options.prefix)}
        mesh, owned = self.mesh, self.options.shard_optimizer
        root = self.options.checkpoint_root
        folder = root / f"step_{self.step:08d}"
        model = local_shards(self.optimizer.parameters, self.decoder, mesh, False)
        optimizer = local_shards(self.optimizer.state().values(), self.decoder, mesh, owned)
        try:
            if mesh.rank == 0:
                begin_checkpoint(root, self.step)
            self.host_comm.barrier()
            write_shards(folder, model, optimizer, mesh.rank if mesh.size > 1 else None)
            self.host_comm.barrier()
            if mesh.rank == 0:
                finish_checkpoint(folder, state, self.options.keep)
            self.host_comm.barrier()
        except BaseException:
            if mesh.size == 1:  # other processes may still be writing; the next checkpoint cleans up
                discard_checkpoint(folder)
            raise
        self._notify("on_checkpoint", self.step, folder)
        return folder

    def _data_layout(self) -> DataLayout:
        return DataLayout(self.loader.rows, self.loader.global_batch, self.options.accumulate, self.loader.lengths)

    def _steps(self) -> Iterator[tuple[list[Batch], Position]]:
        """The micro batches of each update and the data position after them."""
        if self.finished:
            return
        group: list[Batch] = []
        for batch, position in self.loader.batches(self.position, self.options.epochs):
            group.append(batch)
            if len(group) == self.options.accumulate:
                yield group, position
                group = []
                if self.step >= self.options.total_steps:
                    return

    def _update(self, batches: list[Batch], position: Position, labels: float) -> StepRecord:
        """One update from its micro batches; ``labels`` is the number of labeled tokens over all processes."""
        began = time.perf_counter()
        rate = self.schedule.at(self.step)
        scale = self.loss_scale.value
        for batch in batches:
            self.decoder.attention_masks.check(batch.document_ids)
        micro_batches = [
            MicroBatch(
                Tensor(batch.input_ids),
                Tensor(batch.position_ids),
                Tensor(batch.document_ids),
                Tensor(batch.labels),
                Tensor(self._dropout_seed(index), ms.int32),
                Tensor(self._loss_weight(batch) / max(labels, 1), ms.float32),
                self._reference_of(batch),
                self._label_indices(batch),
            )
            for index, batch in enumerate(batches)
        ]
        loss, grad_norm = self.train_step.run(micro_batches, rate, scale)
        finite = math.isfinite(grad_norm)
        self.loss_scale.update(finite)
        self.step += 1
        self.updates += 1
        self.position = position
        seconds = time.perf_counter() - began
        tokens = sum(batch.input_ids.size for batch in batches) * self.mesh.data
        epoch = position.epoch + position.batch / self.loader.batches_per_epoch
        costs = (ids.size * self.decoder.config.flops_per_token(ids.shape[1]) for ids in (b.input_ids for b in batches))
        flops = sum(costs) * self.mesh.data * (2 / 3 if self.options.freezes else 1)
        tflops = flops / seconds / self.mesh.size / 1e12
        mfu = tflops / self.options.peak_tflops if self.options.peak_tflops else 0.0
        return StepRecord(
            *(self.step, epoch, loss, rate, grad_norm, tokens / seconds, scale, not finite),
            *(tflops, mfu, resident_bytes() / 1e9),
        )

    def _handle_bad_loss(self, record: StepRecord, batches: list[Batch]) -> None:
        """Record NaN losses and spikes; rewind to the latest checkpoint if `rewind` is set.

        All processes see the same loss and so take the same action.

        Raises:
            UserError: more consecutive updates were skipped than allowed, and no loss scale can help.
        """
        verdict = self.health.judge(record.loss, record.grad_norm)
        if verdict == "fine" or (verdict == "not finite" and self.loss_scale.scales):
            return
        rows = [int(number) for batch in batches if batch.rows is not None for number in batch.rows]
        gives_up = verdict == "not finite" and self.health.exceeds_patience
        checkpoint = self._rewind_target() if self._rewinds(verdict) else None
        action = "stopped" if gives_up else "skipped" if verdict == "not finite" else "noted"
        if checkpoint is not None:
            action = f"went back to step {checkpoint.step}"
        if self.mesh.rank == 0:
            self.health.record(record, verdict, action, rows, self.loader.location)
        if gives_up:
            raise UserError(
                f"step {record.step}: the gradient is not finite (loss {record.loss}); nothing was updated. Lower the "
                f"learning rate ({record.learning_rate:g} here) or look at rows {rows[:8]} of the data; "
                f"{self.health.file.name} has them all, loss_health.patience skips such steps"
            )
        log.warning("step %d: loss %g, %s: %s (rows %s)", record.step, record.loss, verdict, action, rows[:8])
        if checkpoint is not None:
            position = self.position
            self.resume(checkpoint)
            self.position = position  # continue with the data after the spike
        self.host_comm.barrier()

    def _rewind_target(self) -> Checkpoint | None:
        """The latest checkpoint to rewind to; None if none is intact, and the run continues without."""
        try:
            return newest_checkpoint(self.options.checkpoint_root)
        except UserError as error:
            log.warning("cannot rewind: %s", error)
            return None

    def _rewinds(self, verdict: str) -> bool:
        return verdict == "spike" and self.options.health.rewind

    def _loss_weight(self, batch: Batch) -> int:
        """Weight of a batch within its step: number of labeled tokens, or of pairs."""
        return batch.label_count if self.options.preference is None else batch.row_count

    def _reference_of(self, batch: Batch) -> Tensor | None:
        """The reference's log-probabilities of the batch's pairs ``[B, 2]``; zeros if none are needed."""
        if self.options.preference is None:
            return None
        values = np.zeros((len(batch.input_ids), 2), np.float32)
        if self.reference is not None and batch.rows is not None:
            values[: len(batch.rows)] = self.reference[batch.rows]
        return Tensor(values)

    def _label_indices(self, batch: Batch) -> Tensor | None:
        """Indices of all labeled tokens, filled up with others."""
        if self.options.head_tokens is None:
            return None
        order = np.argsort(batch.labels.reshape(-1) == IGNORED_LABEL, kind="stable")
        return Tensor(order[: self.options.head_tokens[batch.labels.shape[1]]].astype(np.int32))

    def _dropout_seed(self, micro_batch: int) -> int:
        """Dropout seed of this micro batch, which is the same in a resumed run."""
        index = self.mesh.data_index * self.options.accumulate + micro_batch
        return (self.options.seed * 0x9E3779B1 + self.step * 1024 + index) & 0x7FFFFFFF

    def _evaluate(self) -> EvalResult | None:
        if self.eval_step is None or self.eval_loader is None:
            return None
        with GRAPH_LOCK:
            result = evaluate(self.eval_step, self.eval_loader, self.mesh.rank == 0, self.host_comm)
        self.train_step.set_train(True)
        self._notify("on_eval", self.step, result)
        return result

    def _notify(self, event: str, *arguments: object) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle SIGTERM, SIGINT and SIGHUP: the current update finishes and is saved; a second signal stops at once.

        An ignored SIGHUP (nohup) stays ignored. Only the main thread can handle signals; in another one they are the
        program's.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: object) -> None:
            if self._stop_signal is not None:
                raise KeyboardInterrupt
            self._stop_signal = number

        wanted = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            wanted.append(signal.SIGHUP)
        before = {number: signal.signal(number, note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
