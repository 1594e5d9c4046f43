"""Rotary fields of ``config.json``: ``rope_theta`` and ``rope_scaling``, or ``rope_parameters`` of transformers 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindcoder.families.config_fields import ConfigFields, as_number, shown
from mindcoder.families.transformer_config import RopeScaling

DEFAULT_THETA = 10000.0  # of LlamaConfig and Starcoder2Config, for checkpoints older than the field
KEYS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
}


def read_rotary(
    fields: ConfigFields, max_position_embeddings: int, default_theta: float = DEFAULT_THETA
) -> tuple[float, RopeScaling | None]:
    """Theta and scaling in either form; if both are given they must agree.

    Raises:
        ValueError: a kind or key that is not implemented, a missing value, or two that disagree.
    """
    theta, scaling = fields.get("rope_theta"), fields.get("rope_scaling")
    old_theta = None if theta is None else as_number("rope_theta", theta)
    old_scaling = _scaling("rope_scaling", scaling, max_position_embeddings) if scaling else None
    parameters = fields.get("rope_parameters")
    if parameters is None:
        return default_theta if old_theta is None else old_theta, old_scaling
    if not isinstance(parameters, Mapping):
        raise ValueError(f"rope_parameters: expected an object, found {shown(parameters)}")
    values = dict(parameters)
    theta = values.pop("rope_theta", old_theta)
    if theta is None:
        raise ValueError("rope_parameters lacks rope_theta")
    new_theta = as_number("rope_parameters.rope_theta", theta)
    if values.pop("partial_rotary_factor", 1) != 1:
        raise ValueError("rope_parameters.partial_rotary_factor is not implemented; expected 1")
    new_scaling = _scaling("rope_parameters", values or {"rope_type": "default"}, max_position_embeddings)
    if old_theta is not None and old_theta != new_theta:
        raise ValueError(f"rope_theta {old_theta:g} and rope_parameters.rope_theta {new_theta:g} differ")
    if scaling and old_scaling != new_scaling:
        raise ValueError("rope_scaling and rope_parameters differ")
    return new_theta, new_scaling


def write_rope_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """``rope_scaling`` in the form that all versions of transformers read."""
    if scaling is None:
        return None
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values["original_max_position_embeddings"] = scaling.original_length
        values["low_freq_factor"] = scaling.low_freq_factor
        values["high_freq_factor"] = scaling.high_freq_factor
    return values


def _scaling(field: str, values: Any, max_position_embeddings: int) -> RopeScaling | None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{field}: expected an object, found {shown(values)}")
    kinds = [values[name] for name in ("rope_type", "type") if name in values]
    if not kinds:
        raise ValueError(f"{field} lacks rope_type")
    kind = kinds[0]
    if any(other != kind for other in kinds):
        raise ValueError(f"{field}: rope_type {shown(kinds[0])} and type {shown(kinds[1])} differ")
    if not isinstance(kind, str) or kind not in KEYS:
        raise ValueError(f"{field}: rope_type {shown(kind)} is not implemented; expected {', '.join(KEYS)}")
    unknown = [name for name in values if name not in ("rope_type", "type", *KEYS[kind])]
    if unknown:
        raise ValueError(f"{field}: {shown(unknown[0])} of rope_type {kind} is not implemented")
    if kind == "default":
        return None

    def number(name: str) -> float:
        if name not in values:
            raise ValueError(f"{field} lacks {name}")
        value = as_number(f"{field}.{name}", values[name])
        if not 0 < value <= 1e9:
            raise ValueError(f"{field}.{name}: expected a number above 0, found {shown(value)}")
        return value

    if kind == "linear":
        return RopeScaling("linear", number("factor"))
    if kind == "dynamic":
        original = values.get("original_max_position_embeddings")
        if original not in (None, max_position_embeddings):
            raise ValueError(
                f"{field}.original_max_position_embeddings {shown(original)}: transformers stretches from "
                f"max_position_embeddings, {max_position_embeddings}"
            )
        return RopeScaling("dynamic", number("factor"), max_position_embeddings)
    low, high = number("low_freq_factor"), number("high_freq_factor")
    if low >= high:
        raise ValueError(f"{field}: low_freq_factor {low:g} is not below high_freq_factor {high:g}")
    return RopeScaling("llama3", number("factor"), int(number("original_max_position_embeddings")), low, high)
