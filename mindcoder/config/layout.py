"""``parallel_config`` as a `ParallelLayout`, checked against the model, the batch and the number of processes."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError
from mindcoder.parallel_layout import ParallelLayout, check_divides, spread_layers
from mindcoder.sections.pet_section import PREFIX_TYPES


def layout_of(config: RunConfig) -> ParallelLayout:
    """The layout that ``parallel_config`` describes, whether or not ``use_parallel`` is set."""
    section, model = config.parallel_config, config.model.settings
    in_pipeline = section.pipeline_stage > 1
    return ParallelLayout(
        data=section.data_parallel,
        tensor=section.model_parallel,
        pipeline=section.pipeline_stage,
        shard_optimizer=bool(section.optimizer_shard),
        sequence=bool(section.use_seq_parallel or model.use_seq_parallel),
        vocabulary=section.vocab_emb_dp is False,
        offsets=tuple(model.offset) if isinstance(model.offset, list) and in_pipeline else None,
        context=section.context_parallel,
    )


def active_layout(config: RunConfig) -> ParallelLayout:
    """The layout that a run has: `layout_of` with ``use_parallel``, otherwise a single rank."""
    return layout_of(config) if config.use_parallel else ParallelLayout()


def check_layout(config: RunConfig, source: YamlSource, world: int) -> None:
    """Check the layout against ``world`` processes.

    Raises:
        UserError: names the key, what was found and what is expected.
    """
    section, model, layout = config.parallel_config, config.model.settings, layout_of(config)

    def refuse(key: str, message: str) -> None:
        file, line = source.location(("parallel_config", key))
        raise UserError(f"parallel_config.{key}: {message}", file, line)

    if (section.expert_parallel or 1) > 1:
        refuse(
            "expert_parallel",
            f"found {section.expert_parallel}, expected 1: MindCoder has data, tensor (with sequence), context and "
            "pipeline parallel",
        )
    problem = _context_problem(config, layout.context) if layout.context > 1 else None
    if problem is not None:
        refuse("context_parallel", problem)
    if layout.devices != world:
        refuse(
            "data_parallel",
            f"{layout.sizes} makes {layout.devices} but the number of processes is {world} "
            "(scripts/run_singlenode.sh starts them)",
        )
    try:
        check_divides(model.num_heads, model.kv_heads, model.ffn_hidden_size, layout.tensor)
    except ValueError as error:
        refuse("model_parallel", str(error))
    adapter = config.adapter.pet_type if config.adapter is not None else ""
    if layout.tensor > 1 and config.run_mode in ("train", "finetune") and adapter in PREFIX_TYPES:
        refuse("model_parallel", f"found {layout.tensor}, expected 1: a prefix ({adapter}) is for whole layers")
    try:
        spread_layers(model.num_layers, layout.pipeline, model.offset)
    except ValueError as error:
        refuse("pipeline_stage", f"{error} (model.model_config.num_layers and offset)")
    batch = config.runner_config.batch_size
    parts = layout.tensor * layout.context
    if layout.sequence and batch * model.seq_length % parts:
        refuse(
            "use_seq_parallel",
            f"batch_size {batch} x seq_length {model.seq_length} is not divisible by {parts}",
        )


def _context_problem(config: RunConfig, size: int) -> str | None:
    """Why a run cannot divide its sequences over ``size`` ranks; None if it can."""
    model = config.model.settings
    adapter = config.adapter.pet_type if config.adapter is not None else ""
    lengths = [model.seq_length, *config.train_dataset.data_loader.length_buckets]
    odd = [length for length in lengths if length % size]
    if config.run_mode == "predict":
        return f"found {size}, expected 1: sequences are divided in training and evaluation only"
    if odd:
        name = "seq_length" if odd[0] == model.seq_length else "length_buckets"
        return f"{name} {odd[0]} is not divisible by {size}"
    if model.attention_dropout > 0:
        return f"found {size}, expected 1 with attention dropout ({model.attention_dropout:g})"
    if adapter in PREFIX_TYPES:
        return f"found {size}, expected 1: a prefix ({adapter}) is for whole sequences"
    if config.preference is not None:
        return f"found {size}, expected 1: pairs (preference) are compared as whole sequences"
    return None
