"""Checks that ``parallel_config`` fits the model, the batch and the number of processes, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError
from mindcoder.sections.pet_section import PREFIX_TYPES


def spread_layers(layers: int, stages: int, offsets: int | Sequence[int] | None = None) -> list[int]:
    """Number of layers per stage: as even as possible, earlier stages first, or as explicit offsets say.

    Args:
        offsets: MindFormers' ``offset``, added to each stage's even share ``layers // stages``.

    Raises:
        ValueError: the list has the wrong length or sum, or leaves a stage without layers.
    """
    if isinstance(offsets, Sequence):
        if len(offsets) != stages:
            raise ValueError(f"{len(offsets)} numbers for {stages} pipeline stages")
        counts = [layers // stages + offset for offset in offsets]
        if sum(counts) != layers:
            raise ValueError(f"{list(offsets)} makes {'+'.join(map(str, counts))} layers of {layers}")
    else:
        counts = [layers // stages + (stage < layers % stages) for stage in range(stages)]
    if min(counts) < 1:
        raise ValueError(f"{layers} layers leave a stage of {stages} without any")
    return counts


def check_divides(num_heads: int, num_kv_heads: int, intermediate_size: int, shards: int) -> None:
    """Refuse a network that tensor parallelism of size ``shards`` cannot divide; a single key head is replicated.

    Raises:
        ValueError: heads, key heads or the MLP's intermediate size are not divisible.
    """
    sizes = {"num_heads": num_heads, "n_kv_heads": num_kv_heads, "intermediate_size": intermediate_size}
    for name, size in sizes.items():
        if size % shards and not (name == "n_kv_heads" and size == 1):
            raise ValueError(f"{name} {size} is not divisible by {shards}")


def check_layout(config: RunConfig, source: YamlSource, world: int) -> None:
    """Check the device mesh against ``world`` processes.

    Raises:
        UserError: names the key, what was found and what is expected.
    """
    mesh, model = config.parallel_config, config.model.settings

    def refuse(key: str, message: str) -> None:
        file, line = source.location(("parallel_config", key))
        raise UserError(f"parallel_config.{key}: {message}", file, line)

    for key, size in (("context_parallel", mesh.context_parallel), ("expert_parallel", mesh.expert_parallel or 1)):
        if size > 1:
            refuse(key, f"found {size}, expected 1: MindCoder has data, tensor (with sequence) and pipeline parallel")
    product = mesh.data_parallel * mesh.model_parallel * mesh.pipeline_stage
    if product != world:
        refuse(
            "data_parallel",
            f"data {mesh.data_parallel} x tensor {mesh.model_parallel} x pipeline {mesh.pipeline_stage} makes "
            f"{product} but the number of processes is {world} (scripts/run_singlenode.sh starts them)",
        )
    try:
        check_divides(model.num_heads, model.kv_heads, model.ffn_hidden_size, mesh.model_parallel)
    except ValueError as error:
        refuse("model_parallel", str(error))
    adapter = config.adapter.pet_type if config.adapter is not None else ""
    if mesh.model_parallel > 1 and config.run_mode in ("train", "finetune") and adapter in PREFIX_TYPES:
        refuse("model_parallel", f"found {mesh.model_parallel}, expected 1: a prefix ({adapter}) is for whole layers")
    try:
        spread_layers(model.num_layers, mesh.pipeline_stage, model.offset)
    except ValueError as error:
        refuse("pipeline_stage", f"{error} (model.model_config.num_layers and offset)")
    batch = config.runner_config.batch_size
    sequence = mesh.use_seq_parallel or model.use_seq_parallel
    if sequence and batch * model.seq_length % mesh.model_parallel:
        refuse(
            "use_seq_parallel",
            f"batch_size {batch} x seq_length {model.seq_length} is not divisible by {mesh.model_parallel}",
        )
