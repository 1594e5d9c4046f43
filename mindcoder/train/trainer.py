"""The training loop."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mindspore as ms
from mindspore import Tensor

from mindcoder.backend.device import resident_bytes
from mindcoder.checkpoint.store import Checkpoint
from mindcoder.data.loader import Batch, Loader, Position
from mindcoder.errors import UserError
from mindcoder.graph_lock import GRAPH_LOCK
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.context_parallel import own_tokens
from mindcoder.parallel.data_parallel import HostCollectives
from mindcoder.parallel.process_groups import ProcessGroups, single_process
from mindcoder.train.callbacks.base import Callback, StepRecord
from mindcoder.train.checkpointing import Checkpointing, Progress
from mindcoder.train.evaluate import EvalResult
from mindcoder.train.health import LossHealth
from mindcoder.train.objectives.base import Objective
from mindcoder.train.options import TrainOptions
from mindcoder.train.step import MicroBatch, Step

log = logging.getLogger(__name__)


class Trainer:
    """Training loop over data, one compiled step, schedule, evaluation and checkpoints.

    Args:
        decoder: the network, with its initial weights.
        loader: training batches.
        objective: what is minimized.
        train_step: one update of ``decoder``.
        checkpointing: saves and restores the run.
        options: everything else.
        callbacks: notified of training events.
        evaluate: one pass over the evaluation data, if any.
        comm: the process groups of the run; the loaders return this rank's part.
    """

    def __init__(
        self,
        decoder: Decoder,
        loader: Loader,
        objective: Objective,
        train_step: Step,
        checkpointing: Checkpointing,
        options: TrainOptions,
        callbacks: Sequence[Callback] = (),
        evaluate: Callable[[], EvalResult] | None = None,
        comm: ProcessGroups | None = None,
    ) -> None:
        self.decoder, self.loader, self.objective, self.options = decoder, loader, objective, options
        self.train_step, self.checkpointing, self.evaluate = train_step, checkpointing, evaluate
        self.callbacks = list(callbacks)
        self.health = LossHealth(options.health, options.checkpoint_root.parent / "health.jsonl")
        comm = comm or single_process()
        self.mesh, self.host_comm = comm.mesh, HostCollectives(comm)
        self.loss_scale = replace(options.loss_scale)
        self.step = 0
        self.position = Position()
        self.updates = 0  # by this process, not counting those before a resume
        self._stop_signal: int | None = None
        self._stopped = False

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue after ``checkpoint``: weights, optimizer, schedule, loss scale and data position.

        Raises:
            UserError: the checkpoint has other shapes or was made with another batch size.
        """
        progress = self.checkpointing.load(checkpoint)
        self.step, self.position, self.loss_scale = progress.step, progress.position, progress.loss_scale

    def save(self) -> Path:
        """Write a checkpoint of the current step."""
        folder = self.checkpointing.save(Progress(self.step, self.position, self.loss_scale))
        self._notify("on_checkpoint", self.step, folder)
        return folder

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
                    weight, stops = self.host_comm.all_reduce(
                        sum(map(self.objective.weight, batches)), self._stop_signal is not None
                    )
                    if stops:  # all processes see the same sum, so all of them stop before the same update
                        self._stopped = True
                        break
                    with GRAPH_LOCK:
                        record = self._update(batches, position, weight)
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

    def _steps(self) -> Iterator[tuple[list[Batch], Position]]:
        """The micro batches of each update and the data position after them."""
        if self.finished:
            return
        group: list[Batch] = []
        for batch, position in self.loader.batches(self.position, self.options.epochs):
            group.append(own_tokens(batch, self.mesh))
            if len(group) == self.options.accumulate:
                yield group, position
                group = []
                if self.step >= self.options.total_steps:
                    return

    def _update(self, batches: list[Batch], position: Position, weight: float) -> StepRecord:
        """One update from its micro batches; ``weight`` is the sum of `Objective.weight` over all processes."""
        began = time.perf_counter()
        rate, scale = self.options.schedule.at(self.step), self.loss_scale.value
        loss, grad_norm = self.train_step.run(self._micro_batches(batches, weight), rate, scale)
        finite = math.isfinite(grad_norm)
        self.loss_scale.update(finite)
        self.step += 1
        self.updates += 1
        self.position = position
        seconds = time.perf_counter() - began
        tokens = sum(batch.input_ids.size for batch in batches) * self.mesh.layout.copies
        epoch = position.epoch + position.batch / self.loader.batches_per_epoch
        tflops = self._tflops(batches, seconds)
        mfu = tflops / self.options.peak_tflops if self.options.peak_tflops else 0.0
        return StepRecord(
            *(self.step, epoch, loss, rate, grad_norm, tokens / seconds, scale, not finite),
            *(tflops, mfu, resident_bytes() / 1e9),
        )

    def _micro_batches(self, batches: list[Batch], weight: float) -> list[MicroBatch]:
        """Inputs of the next update."""
        for batch in batches:
            self.decoder.attention_masks.check(batch.document_ids)
        return [
            MicroBatch(
                Tensor(batch.input_ids),
                Tensor(batch.position_ids),
                Tensor(batch.document_ids),
                Tensor(batch.labels),
                Tensor(self._dropout_seed(index), ms.int32),
                Tensor(self.objective.weight(batch) / max(weight, 1), ms.float32),
                self.objective.extra_targets(batch),
            )
            for index, batch in enumerate(batches)
        ]

    def _tflops(self, batches: list[Batch], seconds: float) -> float:
        """10^12 floating point operations per second of this process."""
        per_token = self.decoder.config.flops_per_token
        costs = (batch.input_ids.size * per_token(batch.position_ids.shape[1]) for batch in batches)
        flops = sum(costs) * self.mesh.layout.copies * (2 / 3 if self.options.freezes else 1)
        return flops / seconds / self.mesh.size / 1e12

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
        checkpoint = self.checkpointing.rewind_target() if self._rewinds(verdict) else None
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

    def _rewinds(self, verdict: str) -> bool:
        return verdict == "spike" and self.options.health.rewind

    def _dropout_seed(self, micro_batch: int) -> int:
        """Dropout seed of this micro batch, which is the same in a resumed run."""
        index = self.mesh.data_index * self.mesh.context + self.mesh.context_index  # other tokens, other masks
        index = index * self.options.accumulate + micro_batch
        return (self.options.seed * 0x9E3779B1 + self.step * 1024 + index) & 0x7FFFFFFF

    def _evaluate(self) -> EvalResult | None:
        if self.evaluate is None:
            return None
        with GRAPH_LOCK:
            result = self.evaluate()
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
