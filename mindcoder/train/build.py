"""Builders of the parts of a trainer; none of them reads or writes files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mindspore as ms

from mindcoder.config.layout import active_layout
from mindcoder.config.schema import Callback as CallbackSection
from mindcoder.config.schema import RunConfig
from mindcoder.data.loader import Loader
from mindcoder.data.text_format import TextFormat
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.parallel.zero1 import owners
from mindcoder.peft.from_section import lora_options, prefix_options
from mindcoder.peft.lora import rate_ratios
from mindcoder.train.callbacks.base import Callback
from mindcoder.train.callbacks.console import ConsoleProgress
from mindcoder.train.callbacks.curve import CurveFiles
from mindcoder.train.callbacks.tensorboard import TensorBoard
from mindcoder.train.callbacks.trackers import TRACKERS, tracker
from mindcoder.train.from_section import build_loss_scale, build_optimizer, build_schedule
from mindcoder.train.health import HealthOptions
from mindcoder.train.identity import Identity
from mindcoder.train.objectives.base import Objective
from mindcoder.train.optimizer import AdamW
from mindcoder.train.options import TrainOptions
from mindcoder.train.pipeline_step import PipelineStep
from mindcoder.train.step import Step, TrainStep


def micro_batches(config: RunConfig) -> int:
    """Micro batches per update: ``gradient_accumulation_steps``, times ``micro_batch_num`` in a pipeline."""
    in_pipeline = active_layout(config).pipeline > 1
    micro = (config.parallel_config.micro_batch_num or 1) if in_pipeline else 1
    return config.runner_config.gradient_accumulation_steps * micro


def total_steps(config: RunConfig, loader: Loader) -> int:
    """Updates of the whole run.

    Raises:
        UserError: the data are fewer than one update takes.
    """
    runner, accumulate = config.runner_config, micro_batches(config)
    epochs = 1 if config.train_dataset.data_loader.streaming else runner.epochs
    steps = loader.batches_per_epoch * epochs // accumulate
    if runner.max_steps is not None:
        steps = min(steps, runner.max_steps)
    if steps == 0:
        raise UserError(
            f"{loader.batches_per_epoch} batches are fewer than the {accumulate} of one update "
            "(gradient_accumulation_steps, times micro_batch_num in a pipeline)"
        )
    return steps


def checkpoint_root(config: RunConfig) -> Path:
    """Folder of the run's checkpoints."""
    return Path(config.output_dir) / "checkpoint"


def build_options(
    config: RunConfig, steps: int, has_eval: bool, mesh: Mesh, identity: Identity, text_format: TextFormat
) -> TrainOptions:
    """Hyperparameters of a run.

    Args:
        steps: updates of the whole run.
        has_eval: whether there are evaluation data.
        identity, text_format: stored in its checkpoints.
    """
    runner, wrapper, saving = config.runner_config, config.runner_wrapper, _checkpoint_callback(config)
    return TrainOptions(
        total_steps=steps,
        epochs=runner.epochs,
        accumulate=micro_batches(config),
        schedule=build_schedule(config, steps),
        optimizer=build_optimizer(config),
        loss_scale=build_loss_scale(config),
        max_grad_norm=wrapper.max_grad_norm if wrapper.use_clip_grad else 0.0,
        seed=config.seed,
        save_every=saving.save_checkpoint_steps or 0,
        keep=saving.keep_checkpoint_max,
        eval_every=max(config.eval_step_interval, 0) if has_eval else 0,
        checkpoint_root=checkpoint_root(config),
        recompute=bool(config.recompute_config.recompute),
        shard_optimizer=mesh.layout.shard_optimizer and mesh.data > 1,
        lora=lora_options(config),
        prefix=prefix_options(config),
        identity=identity,
        text_format=text_format,
        peak_tflops=runner.peak_tflops or 0.0,
        health=HealthOptions(**config.loss_health.model_dump()),
        base=str(Path(config.load_checkpoint).resolve()) if config.load_checkpoint else "",
    )


def _checkpoint_callback(config: RunConfig) -> CallbackSection:
    found = [item for item in config.callbacks if item.kind == "CheckpointMonitor"]
    return found[0] if found else CallbackSection(type="CheckpointMonitor")


def build_callbacks(config: RunConfig, listeners: Sequence[Callback]) -> list[Callback]:
    """The callbacks of ``callbacks``, then ``listeners``."""
    output = Path(config.output_dir)
    printing = next((item.per_print_times for item in config.callbacks if item.type == "MFLossMonitor"), 10)
    trackers = [
        tracker(item.type, item.project, item.online, output, config.model_dump(exclude_none=True))
        for item in config.callbacks
        if item.type in TRACKERS
    ]
    return [
        ConsoleProgress(printing),
        CurveFiles(output / "curves"),
        TensorBoard(output / "tensorboard"),
        *trackers,
        *listeners,
    ]


def build_adamw(decoder: Decoder, options: TrainOptions, comm: ProcessGroups) -> AdamW:
    """The optimizer of the trainable parameters; sharded over the data-parallel ranks where that is asked for."""
    parameters, mesh = ms.ParameterTuple(decoder.trainable_params()), comm.mesh
    ratios = rate_ratios(parameters, options.lora) if options.lora else None
    if not options.shard_optimizer or mesh.data == 1:
        return AdamW(parameters, options.optimizer, rate_ratios=ratios)
    owner = owners([tuple(item.shape) for item in parameters], mesh.data)
    owned = [rank == mesh.data_index for rank in owner]
    return AdamW(parameters, options.optimizer, owned, comm.all_reduce_among(mesh.data_ranks()), ratios)


def build_step(
    decoder: Decoder, optimizer: AdamW, objective: Objective, options: TrainOptions, comm: ProcessGroups
) -> Step:
    """The training step of this rank's part of the network."""
    clip, scaled, recompute = options.max_grad_norm, options.loss_scale.scales, options.recompute
    if comm.mesh.pipeline > 1:
        return PipelineStep(decoder, optimizer, objective, clip, scaled, recompute, comm)
    return TrainStep(decoder, optimizer, clip, options.accumulate > 1, scaled, recompute, comm, objective)
