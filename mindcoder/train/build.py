"""Builders of the parts of a trainer."""

from __future__ import annotations

import mindspore as ms

from mindcoder.models.decoder import Decoder
from mindcoder.parallel.collectives import ProcessGroups
from mindcoder.parallel.optimizer_shard import owners
from mindcoder.peft.lora import rate_ratios
from mindcoder.train.objectives.base import Objective
from mindcoder.train.optimizer import AdamW
from mindcoder.train.options import TrainOptions
from mindcoder.train.pipeline_step import PipelineStep
from mindcoder.train.step import Step, TrainStep


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
