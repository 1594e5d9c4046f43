"""The workload of a configuration as the plan takes it."""

from __future__ import annotations

from mindcoder.config.layout import layout_of
from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.peft.from_section import lora_options, prefix_options
from mindcoder.peft.options import adapter_shapes, prefix_shapes
from mindcoder.planning.layout import Shapes, Workload


def workload_of(config: RunConfig, network: TransformerConfig) -> Workload:
    """One step of ``runner_config``.

    Raises:
        UserError: the adapter does not fit the network.
    """
    runner = config.runner_config
    prefix = prefix_options(config)
    micro = (config.parallel_config.micro_batch_num or 1) if layout_of(config).pipeline > 1 else 1
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
