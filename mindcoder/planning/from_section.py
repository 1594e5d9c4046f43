"""A configuration file's layout and workload as the plan takes them."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.peft.from_section import lora_options, prefix_options
from mindcoder.peft.options import adapter_shapes, prefix_shapes
from mindcoder.planning.layout import Layout, Shapes, Workload


def layout_of(config: RunConfig) -> Layout:
    """``parallel_config``."""
    mesh, model = config.parallel_config, config.model.settings
    return Layout(
        mesh.data_parallel,
        mesh.model_parallel,
        mesh.pipeline_stage,
        bool(mesh.optimizer_shard),
        bool(mesh.use_seq_parallel or model.use_seq_parallel),
        mesh.vocab_emb_dp is False,
        tuple(model.offset) if isinstance(model.offset, list) and mesh.pipeline_stage > 1 else None,
    )


def workload_of(config: RunConfig, network: TransformerConfig) -> Workload:
    """One step of ``runner_config``.

    Raises:
        UserError: the adapter does not fit the network.
    """
    mesh, runner = config.parallel_config, config.runner_config
    prefix = prefix_options(config)
    micro = (mesh.micro_batch_num or 1) if mesh.pipeline_stage > 1 else 1
    return Workload(
        runner.batch_size,
        config.model.settings.seq_length,
        micro * runner.gradient_accumulation_steps,
        bool(config.recompute_config.recompute),
        _adapter_shapes(config, network),
        0 if prefix is None else prefix.tokens,
    )


def _adapter_shapes(config: RunConfig, network: TransformerConfig) -> Shapes | None:
    """Of LoRA's matrices or a prefix; None where all weights are trained."""
    options, prefix = lora_options(config), prefix_options(config)
    if prefix is not None:
        return prefix_shapes(prefix, network)
    try:
        return None if options is None else adapter_shapes(options, network)
    except ValueError as error:
        raise UserError(f"model.model_config.pet_config.target_modules: {error}") from None
