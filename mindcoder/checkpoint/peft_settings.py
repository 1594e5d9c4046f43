"""``adapter_config.json`` of PEFT: each setting is read, known to have no effect, or refused by name.

Settings and their meaning: LoraConfig and PrefixTuningConfig of PEFT 0.18.1 (src/peft/tuners of huggingface/peft).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.families.config_fields import as_number, shown
from mindcoder.files import file_there, read_json_object

CONFIG_FILE = "adapter_config.json"
CONFIG_LIMIT = 4 << 20  # bytes
LARGEST_RANK = 65536
LARGEST_SCALING = 1e6  # of an update; far above every published one, far below float32 overflow
LONGEST_PATTERN = 1000  # characters; module names are shorter
MOST_REPEATS = 4  # repetitions in a pattern: matching time grows with the name's length to this power
# They choose what is trained and how it is initialized, or describe the file; the saved matrices determine the rest.
HARMLESS = """
    task_type peft_type peft_version auto_mapping revision inference_mode lora_dropout target_modules exclude_modules
    layers_to_transform layers_pattern loftq_config eva_config corda_config megatron_core qalora_group_size
    runtime_config ensure_weight_tying base_model_name_or_path
    token_dim num_transformer_submodules num_attention_heads num_layers encoder_hidden_size
"""
# Have no effect while they are false, empty or null.
NOT_IMPLEMENTED = """
    modules_to_save trainable_token_indices fan_in_fan_out lora_bias layer_replication target_parameters
    alora_invocation_tokens use_qalora megatron_config arrow_config prefix_projection
"""
# Initializations that also change the base model, unless the adapter was converted when it was saved.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq")


TEXT_GENERATION = "CAUSAL_LM"


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _are_names(value: Any) -> bool:
    """One name or pattern, a list of them, or null."""
    names = value if isinstance(value, list) else [] if value is None else [value]
    return all(isinstance(name, str) and name for name in names)


def _are_layers(value: Any) -> bool:
    """One layer index, a list of them, or null."""
    indices = value if isinstance(value, list) else [] if value is None else [value]
    return all(isinstance(index, int) and not isinstance(index, bool) and index >= 0 for index in indices)


# No effect here, but a file with other values was not written by PEFT.
HARMLESS_VALUES = {
    "lora_dropout": (_is_probability, "a number from 0 to 1"),
    "target_modules": (_are_names, "a module's name or a list of names"),
    "exclude_modules": (_are_names, "a module's name or a list of names"),
    "layers_pattern": (_are_names, "a module's name or a list of names"),
    "layers_to_transform": (_are_layers, "the number of a layer or a list of them"),
}


@dataclass(frozen=True)
class PeftSettings:
    """The settings needed to interpret an adapter's matrices.

    Attributes:
        rank: ``r``; see `rank_of` for exceptions.
        alpha: ``lora_alpha``; see `scaling` for exceptions.
        rank_stabilized: ``use_rslora``.
        magnitudes: ``use_dora``.
    """

    rank: int
    alpha: float
    rank_stabilized: bool
    magnitudes: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    def rank_of(self, name: str) -> int:
        """Rank of the matrices of module ``name``."""
        return _matching(self.rank_pattern, name, self.rank)

    def scaling(self, name: str) -> float:
        """Scaling of the update of module ``name``."""
        rank = self.rank_of(name)
        return _matching(self.alpha_pattern, name, self.alpha) / (rank**0.5 if self.rank_stabilized else rank)


def _matching(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
    """As PEFT does, take the first pattern that the module's name ends with."""
    return next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", name)), default)


def read_config(folder: Path) -> dict[str, Any]:
    """The raw content of ``adapter_config.json``.

    Raises:
        UserError: it is not a JSON object, or its adapter type or base model is invalid.
    """
    file = folder / CONFIG_FILE
    values = read_json_object(file, CONFIG_LIMIT)
    for name in ("peft_type", "base_model_name_or_path"):
        if not isinstance(values.get(name, ""), str | None):
            raise UserError(f"{name}: expected a text, found {shown(values[name])}", file)
    return values


def is_peft(path: Path) -> bool:
    """Whether a folder is a PEFT adapter."""
    return file_there(path / CONFIG_FILE)


def read_settings(folder: Path) -> PeftSettings:
    """The settings of a LoRA adapter.

    Raises:
        UserError: another kind of adapter, or a setting that is unknown, not implemented or invalid.
    """
    file, values = folder / CONFIG_FILE, read_config(folder)
    if values.get("peft_type") != "LORA":
        raise UserError(f"peft_type {shown(values.get('peft_type'))}: only LORA and PREFIX_TUNING are read", file)
    try:
        return _settings(values)
    except ValueError as error:
        raise UserError(str(error), file) from None


def check_known(values: Mapping[str, Any], read: tuple[str, ...]) -> None:
    """Refuse settings that are not in ``read`` and are unknown, invalid, or have an effect that is not implemented.

    Raises:
        ValueError: names the setting.
    """
    if values.get("task_type") not in (None, TEXT_GENERATION):
        found = shown(values["task_type"])
        raise ValueError(
            f"task_type: expected {TEXT_GENERATION}, found {found}: the adapter is not for a language model"
        )
    for name, (fits, expected) in HARMLESS_VALUES.items():
        if name in values and not fits(values[name]):
            raise ValueError(f"{name}: expected {expected}, found {shown(values[name])}")
    known = (*read, *HARMLESS.split(), *NOT_IMPLEMENTED.split())
    for name, value in values.items():
        if name in NOT_IMPLEMENTED.split() and value:
            raise ValueError(f"{name} {shown(value)} is not implemented: only plain LoRA is supported")
        if name not in known and value:
            raise ValueError(f"unknown setting {shown(name)}: whether it changes the result is not known")


def _settings(values: Mapping[str, Any]) -> PeftSettings:
    if values.get("bias", "none") != "none":
        raise ValueError(f"bias {shown(values['bias'])} is not implemented: only plain LoRA is supported")
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        raise ValueError(
            f"init_lora_weights {shown(start)}: it belongs to a changed base model; save it with "
            "path_initial_model_for_weight_conversion"
        )
    check_known(
        values,
        ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias", "init_lora_weights"),
    )
    return PeftSettings(
        _rank("r", values.get("r", 8)),
        _alpha("lora_alpha", values.get("lora_alpha", 8)),
        _flag(values, "use_rslora"),
        _flag(values, "use_dora"),
        {key: _rank(f"rank_pattern.{key}", value) for key, value in _patterns(values, "rank_pattern").items()},
        {key: _alpha(f"alpha_pattern.{key}", value) for key, value in _patterns(values, "alpha_pattern").items()},
    )


def _rank(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_RANK:
        raise ValueError(f"{name}: expected a whole number from 1 to {LARGEST_RANK}, found {shown(value)}")
    return value


def _alpha(name: str, value: Any) -> float:
    """A valid alpha: the scaling is alpha divided by a rank of at least 1."""
    alpha = as_number(name, value)
    if abs(alpha) > LARGEST_SCALING:
        raise ValueError(f"{name}: expected a number of at most {LARGEST_SCALING:g}, found {shown(value)}")
    return alpha


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, found {shown(value)}")
    return value


def _patterns(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    patterns = values.get(name) or {}
    if not isinstance(patterns, dict):
        raise ValueError(f"{name}: expected an object of module -> value, found {shown(patterns)}")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{name}: {shown(pattern)} is not a regular expression: {error}") from None
        repeats = len(re.findall(r"[*+{]", pattern))
        if len(pattern) > LONGEST_PATTERN or repeats > MOST_REPEATS or re.search(r"\)[*+{]", pattern):
            raise ValueError(f"{name}: {shown(pattern)} is too intricate for a pattern of module names")
    return patterns
