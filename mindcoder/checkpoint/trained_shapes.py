"""Expected tensors of a training checkpoint, derived from its state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig, config_from_dict
from mindcoder.peft.options import LoraOptions, PrefixOptions, adapter_shapes, prefix_shapes

MOST_LAYERS = 10_000  # sanity limit on what a state claims


def trained_shapes(state: Mapping[str, Any], folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Global names and shapes of the parameters that a run trained; None if the state does not describe a network.

    Raises:
        UserError: the state contradicts itself.
    """
    values = state.get("config")
    if values is None:
        return None
    try:
        if not isinstance(values.get("num_layers"), int) or not 0 < values["num_layers"] <= MOST_LAYERS:
            raise ValueError(f"num_layers {str(values.get('num_layers'))[:30]}")
        return _shapes(config_from_dict(values), state.get("adapter"))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise UserError(f"damaged checkpoint: its state does not describe a network: {error}", folder) from None


def _shapes(config: TransformerConfig, adapter: Mapping[str, Any] | None) -> dict[str, tuple[int, ...]]:
    if adapter is None:
        return config.parameter_shapes()
    if "prefix" in adapter:
        return prefix_shapes(PrefixOptions(**adapter["prefix"]), config)
    return adapter_shapes(lora_options_of(adapter), config)


def lora_options_of(adapter: Mapping[str, Any]) -> LoraOptions:
    """The options in the state of a LoRA run.

    Raises:
        TypeError, KeyError: there are none.
    """
    described = dict(adapter["options"])
    for name in ("target_modules", "exclude_layers"):
        described[name] = tuple(described[name])
    return LoraOptions(**described)
