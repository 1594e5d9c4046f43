"""Adapters in PEFT's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

Where Hugging Face has one matrix for several of our layers (GPT-BigCode's ``c_attn``), its update has the sum of their
ranks: the A matrices are stacked, the B matrices form a block diagonal. In the other direction every layer gets all of
A and its rows of B. Both are exact.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mindcoder.checkpoint.adapter import Adapter, Update
from mindcoder.checkpoint.peft_settings import CONFIG_FILE, read_config, read_settings
from mindcoder.checkpoint.safetensors_file import list_safetensors
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES, convert_dtype
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import ParameterName, split_layer
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightRule
from mindcoder.files import file_there, honour_umask, staging_directory

WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
LORA_TENSOR = re.compile(r"(?:base_model\.model\.)?(.*)\.lora_(A|B|magnitude_vector)(?:\.default)?(?:\.weight)?")
LAYER = re.compile(r"^.*\.(?:h|layers)\.\d+\.")


def peft_base(folder: Path) -> str:
    """Location of the base model, as far as the folder states it."""
    return str(read_config(folder).get("base_model_name_or_path") or "")


def write_peft(adapter: Adapter, config: TransformerConfig, target: Path) -> int:
    """Write a folder that ``peft.PeftModel.from_pretrained`` loads; returns the number of tensors.

    Raises:
        UserError: the target exists.
    """
    if target.exists() or target.is_symlink():
        raise UserError("exists; give another folder", target)
    updates = {
        rule.huggingface.removesuffix(".weight"): _joined(rule, adapter.updates, config) for rule in _rules(config)
    }
    written = {name: update for name, update in updates.items() if update is not None}
    rank = adapter.rank
    scaling = Counter(update.scaling for update in written.values()).most_common(1)[0][0]
    short = {LAYER.sub("", name) for name in written}
    everywhere = all(sum(name.endswith(f".{part}") for name in written) == config.num_layers for part in short)
    suffixes = {name: LAYER.sub("", name) if everywhere else name for name in written}
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": rank,
        "lora_alpha": _number(scaling * rank),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "use_dora": any(update.magnitude is not None for update in written.values()),
        "target_modules": sorted(set(suffixes.values())),
        "rank_pattern": {suffixes[name]: update.rank for name, update in written.items() if update.rank != rank},
        "alpha_pattern": {
            suffixes[name]: _number(update.scaling * update.rank)
            for name, update in written.items()
            if update.scaling * update.rank != scaling * rank
        },
    }
    tensors = {}
    for name, update in written.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(update.a)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(update.b)
        if update.magnitude is not None:
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = update.magnitude
    with staging_directory(target) as staging:
        save_file(tensors, staging / WEIGHTS_FILE, {"format": "pt"})
        honour_umask(staging / WEIGHTS_FILE)
        (staging / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        staging.rename(target)
    return len(tensors)


def read_peft(folder: Path, config: TransformerConfig) -> Adapter:
    """Read the adapter of a PEFT folder for a network of ``config``.

    Raises:
        UserError: it is damaged, is not plain LoRA, or belongs to another network.
    """
    settings, file = read_settings(folder), folder / WEIGHTS_FILE
    pairs = _read_pairs(file)
    updates: dict[str, Update] = {}
    rules = {rule.huggingface.removesuffix(".weight"): rule for rule in _rules(config)}
    for name, pair in pairs.items():
        if name not in rules or set(pair) - {"magnitude_vector"} != {"A", "B"}:
            raise UserError(f"{name} has no place in a {config.model_type} of {config.num_layers} layers", file)
        _check_shapes(name, pair, settings.rank_of(name), file)
        update = Update(pair["A"], pair["B"], settings.scaling(name), pair.get("magnitude_vector"))
        updates.update(_split(rules[name], update, config, file))
    if not updates:
        raise UserError("holds no LoRA matrix", file)
    if settings.magnitudes and any(update.magnitude is None for update in updates.values()):
        raise UserError("use_dora, but an update lacks its magnitudes", file)
    return Adapter(folder, peft_base(folder), updates)


def _read_pairs(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Module -> its matrices ``A`` and ``B``, and DoRA magnitudes if there are any, in float32."""
    if not file_there(file):
        raise UserError(f"is missing; PEFT's {CONFIG_FILE} is there", file)
    pairs: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in list_safetensors(file).items():
        match = LORA_TENSOR.fullmatch(name)
        if match is None:
            raise UserError(f"holds {name}, which is not a LoRA matrix of a linear layer", file)
        if tensor.dtype not in FLOAT_DTYPES:
            raise UserError(f"{name} has dtype {tensor.dtype}, expected one of {', '.join(FLOAT_DTYPES)}", file)
        pair = pairs.setdefault(match[1], {})
        if match[2] in pair:
            raise UserError(f"holds {match[1]}.lora_{match[2]} twice", file)
        pair[match[2]] = convert_dtype(tensor.read(), tensor.dtype, "F32")
    return pairs


def _check_shapes(name: str, pair: Mapping[str, np.ndarray], rank: int, file: Path) -> None:
    a, b, lengths = pair["A"], pair["B"], pair.get("magnitude_vector")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise UserError(f"{name}: lora_A and lora_B are {shapes}, expected [{rank}, in] and [out, {rank}]", file)
    if lengths is not None and lengths.size != b.shape[0]:
        raise UserError(f"{name}: {lengths.size} magnitudes for {b.shape[0]} outputs", file)


def _rules(config: TransformerConfig) -> list[WeightRule]:
    """Rules of the linear layers' weights."""
    linears = config.linear_shapes()
    named = ((rule, ParameterName.parse(rule.ours[0])) for rule in family_of(config.model_type).weights.expand(config))
    return [rule for rule, name in named if name.module in linears and name.part == "weight"]


def _joined(rule: WeightRule, updates: Mapping[str, Update], config: TransformerConfig) -> Update | None:
    """The update of a Hugging Face matrix from those of our layers; None if none of them has one."""
    names = [name.removesuffix(".weight") for name in rule.ours]
    own = [updates[name] for name in names if name in updates]
    if not own:
        return None
    if rule.join is None:
        return own[0]
    scaling, rank, shapes = own[0].scaling, sum(update.rank for update in own), config.linear_shapes()
    columns, parts = 0, []
    for name in names:
        part = np.zeros((shapes[split_layer(name)[1]][0], rank), np.float32)
        if name in updates:
            update = updates[name]
            part[:, columns : columns + update.rank] = update.b * np.float32(update.scaling / scaling)
            columns += update.rank
        parts.append(part)
    magnitude = None
    if any(update.magnitude is not None for update in own):
        if len(own) < len(names):
            raise UserError(f"DoRA: PEFT needs updates of all of {', '.join(names)}, which are one matrix there")
        lengths = [np.asarray(update.magnitude).reshape(-1, 1) for update in own]
        magnitude = np.ascontiguousarray(rule.join(lengths, config).reshape(-1))
    return Update(np.concatenate([update.a for update in own]), rule.join(parts, config), scaling, magnitude)


def _split(rule: WeightRule, update: Update, config: TransformerConfig, file: Path) -> dict[str, Update]:
    """Our layers' updates from that of a Hugging Face matrix."""
    names = [name.removesuffix(".weight") for name in rule.ours]
    if rule.split is None:
        return {names[0]: update}
    try:
        parts = rule.split(update.b, config)
        lengths = None if update.magnitude is None else rule.split(update.magnitude.reshape(-1, 1), config)
    except ValueError:
        raise UserError(f"{rule.huggingface}: {update.b.shape[0]} rows do not fit the network", file) from None
    return {
        name: Update(
            update.a,
            np.ascontiguousarray(part),
            update.scaling,
            None if lengths is None else np.ascontiguousarray(lengths[index].reshape(-1)),
        )
        for index, (name, part) in enumerate(zip(names, parts))
    }


def _number(value: float) -> int | float:
    rounded = round(value)
    return rounded if abs(value - rounded) < 1e-9 else value
