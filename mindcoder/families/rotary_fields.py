"""Rotary fields of ``config.json``: ``rope_theta`` and ``rope_scaling``, or ``rope_parameters`` of transformers 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mindcoder.families.config_fields import ConfigFields, as_number, shown
from mindcoder.families.rope_scaling import RopeScaling
from mindcoder.families.transformer_config import TransformerConfig

DEFAULT_THETA = 10000.0  # of LlamaConfig and Starcoder2Config, for checkpoints older than the field
ORIGINAL = "original_max_position_embeddings"
KEYS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", ORIGINAL),
    "llama3": ("factor", ORIGINAL, "low_freq_factor", "high_freq_factor"),
    "longrope": ("factor", ORIGINAL, "short_factor", "long_factor", "attention_factor"),
    "yarn": (
        *("factor", ORIGINAL, "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor"),
        "truncate",
    ),
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
    old_scaling = _scaling("rope_scaling", scaling, fields, max_position_embeddings) if scaling else None
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
    new_scaling = _scaling("rope_parameters", values or {"rope_type": "default"}, fields, max_position_embeddings)
    if old_theta is not None and old_theta != new_theta:
        raise ValueError(f"rope_theta {old_theta:g} and rope_parameters.rope_theta {new_theta:g} differ")
    if scaling and old_scaling != new_scaling:
        raise ValueError("rope_scaling and rope_parameters differ")
    return new_theta, new_scaling


def write_rotary(config: TransformerConfig) -> dict[str, Any]:
    """``rope_theta`` and ``rope_scaling`` in the form that all versions of transformers read."""
    written = {"rope_theta": config.rope_theta, "rope_scaling": write_rope_scaling(config.rope_scaling)}
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "longrope" and scaling.original_length != config.max_position_embeddings:
        written[ORIGINAL] = scaling.original_length  # transformers 4 reads it here only
    return written


def write_rope_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """``rope_scaling``; what an optional key would say by its default is left out."""
    if scaling is None:
        return None
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values[ORIGINAL] = scaling.original_length
        values["low_freq_factor"] = scaling.low_freq_factor
        values["high_freq_factor"] = scaling.high_freq_factor
    if scaling.kind == "longrope":
        values |= {"short_factor": list(scaling.short_factors), "long_factor": list(scaling.long_factors)}
    if scaling.kind == "yarn":
        plain = RopeScaling("yarn", scaling.factor, scaling.original_length)
        values[ORIGINAL] = scaling.original_length
        for name in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"):
            if getattr(scaling, name) != getattr(plain, name):
                values[name] = getattr(scaling, name)
    if scaling.given_attention_factor:
        values["attention_factor"] = scaling.given_attention_factor
    return values


def _scaling(field: str, values: Any, fields: ConfigFields, max_position_embeddings: int) -> RopeScaling | None:
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
    found = Found(field, values)
    if kind == "linear":
        return RopeScaling("linear", found.number("factor"))
    if kind == "dynamic":
        original = values.get(ORIGINAL)
        if original not in (None, max_position_embeddings):
            raise ValueError(
                f"{field}.{ORIGINAL} {shown(original)}: transformers stretches from "
                f"max_position_embeddings, {max_position_embeddings}"
            )
        return RopeScaling("dynamic", found.number("factor"), max_position_embeddings)
    if kind == "yarn":
        return _yarn(found, max_position_embeddings)
    if kind == "longrope":
        return _longrope(found, fields, max_position_embeddings)
    low, high = found.number("low_freq_factor"), found.number("high_freq_factor")
    if low >= high:
        raise ValueError(f"{field}: low_freq_factor {low:g} is not below high_freq_factor {high:g}")
    return RopeScaling("llama3", found.number("factor"), int(found.number(ORIGINAL)), low, high)


def _yarn(found: Found, max_position_embeddings: int) -> RopeScaling:
    """Null means that an optional key is not there, as in transformers' ``_compute_yarn_parameters``."""
    fast, slow = found.optional("beta_fast", 32.0), found.optional("beta_slow", 1.0)
    if fast < slow:
        raise ValueError(f"{found.field}: beta_fast {fast:g} is below beta_slow {slow:g}")
    truncate = found.values.get("truncate", True)
    if not isinstance(truncate, bool):
        raise ValueError(f"{found.field}.truncate: expected true or false, found {shown(truncate)}")
    return RopeScaling(
        "yarn",
        found.number("factor"),
        int(found.optional(ORIGINAL, max_position_embeddings)),
        beta_fast=fast,
        beta_slow=slow,
        mscale=found.optional("mscale", 0.0),
        mscale_all_dim=found.optional("mscale_all_dim", 0.0),
        truncate=truncate,
        given_attention_factor=found.optional("attention_factor", 0.0),
    )


def _longrope(found: Found, fields: ConfigFields, max_position_embeddings: int) -> RopeScaling:
    """The original context is a field outside of ``rope_scaling``, from which the factor follows; transformers 5 has it
    in ``rope_parameters``.
    """
    outer, inner = fields.optional_whole(ORIGINAL), found.optional(ORIGINAL, 0)
    if found.field == "rope_parameters" and outer is None and inner:
        outer = int(inner)
    original = outer or max_position_embeddings
    if inner and inner != original:
        raise ValueError(
            f"{found.field}.{ORIGINAL} {inner:g}: the original context is the {ORIGINAL} outside of {found.field}, or "
            f"max_position_embeddings; that is {original}"
        )
    return RopeScaling(
        "longrope",
        found.number("factor") if outer is None else max_position_embeddings / outer,
        original,
        short_factors=found.numbers("short_factor"),
        long_factors=found.numbers("long_factor"),
        given_attention_factor=found.optional("attention_factor", 0.0),
    )


@dataclass(frozen=True)
class Found:
    """The keys of a scaling.

    Attributes:
        field: ``rope_scaling`` or ``rope_parameters``, for messages.
        values: its keys.
    """

    field: str
    values: Mapping[str, Any]

    def number(self, name: str) -> float:
        """A number above 0."""
        if name not in self.values:
            raise ValueError(f"{self.field} lacks {name}")
        value = as_number(f"{self.field}.{name}", self.values[name])
        if not 0 < value <= 1e9:
            raise ValueError(f"{self.field}.{name}: expected a number above 0, found {shown(value)}")
        return value

    def optional(self, name: str, default: float) -> float:
        """The same; ``default`` if the key is missing or null."""
        return default if self.values.get(name) is None else self.number(name)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers."""
        values = self.values.get(name)
        if not isinstance(values, list) or not values:
            raise ValueError(f"{self.field}.{name}: expected a list of numbers, found {shown(values)}")
        return tuple(as_number(f"{self.field}.{name}", value) for value in values)
