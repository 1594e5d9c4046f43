"""Prefixes in PEFT's format (``PREFIX_TUNING``): one table of all layers' keys and values, ``prompt_embeddings``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mindcoder.checkpoint.adapter import Prefix
from mindcoder.checkpoint.peft_format import WEIGHTS_FILE
from mindcoder.checkpoint.peft_settings import CONFIG_FILE, check_known, read_config
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.safetensors_file import list_safetensors
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.files import file_there, honour_umask, staging_directory
from mindcoder.peft.options import PrefixOptions, prefix_shapes

KIND, TABLE = "PREFIX_TUNING", "prompt_embeddings"


def is_peft_prefix(folder: Path) -> bool:
    """Whether a PEFT folder holds a prefix."""
    return read_config(folder).get("peft_type") == KIND


def write_peft_prefix(prefix: Prefix, base: str, config: TransformerConfig, target: Path) -> int:
    """Write a folder that ``peft.PeftModel.from_pretrained`` loads; returns the number of tensors.

    A prefix with a projection is written as the keys and values it produces.

    Raises:
        UserError: the target exists.
    """
    if target.exists() or target.is_symlink():
        raise UserError("exists; give another folder", target)
    options = prefix.options
    values = {
        "peft_type": KIND,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "num_virtual_tokens": options.tokens,
        "token_dim": config.kv_size,
        "num_attention_heads": config.num_kv_heads,
        "num_layers": config.num_layers,
        "num_transformer_submodules": 1,
        "encoder_hidden_size": config.kv_size,
        "prefix_projection": False,
        "inference_mode": True,
    }
    stored = {name: prefix.plans[name].read().astype(np.float32) for name in prefix_shapes(options, config)}
    tables = []
    for name in list(stored):
        if name.endswith("embedding_table"):
            table, start = stored[name], name.removesuffix("_embedding.embedding_table")
            if options.projection:
                inner = np.tanh(table @ stored[f"{start}_dense_in.weight"].T + stored[f"{start}_dense_in.bias"])
                table = inner @ stored[f"{start}_dense_out.weight"].T + stored[f"{start}_dense_out.bias"]
            tables.append(table)
    with staging_directory(target) as staging:
        save_file({TABLE: np.ascontiguousarray(np.concatenate(tables, 1))}, staging / WEIGHTS_FILE, {"format": "pt"})
        honour_umask(staging / WEIGHTS_FILE)
        (staging / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        staging.rename(target)
    return 1


def read_peft_prefix(folder: Path, config: TransformerConfig) -> Prefix:
    """Read the prefix of a PEFT folder for a network of ``config``.

    Raises:
        UserError: it is damaged, or belongs to another network.
    """
    values, file = read_config(folder), folder / WEIGHTS_FILE
    if not file_there(file):
        raise UserError(f"is missing; PEFT's {CONFIG_FILE} is there", file)
    tokens = values.get("num_virtual_tokens")
    try:
        check_known(values, ("num_virtual_tokens",))
    except ValueError as error:
        raise UserError(str(error), folder / CONFIG_FILE) from None
    table = list_safetensors(file).get(TABLE)
    width = 2 * config.kv_size
    if table is None or table.shape != (tokens, config.num_layers * width) or not tokens:
        found = "nothing" if table is None else list(table.shape)
        raise UserError(
            f"{TABLE}: expected [{tokens!r:.30}, {config.num_layers * width}] for this network, found {found}", file
        )
    if table.dtype not in FLOAT_DTYPES:
        raise UserError(f"{TABLE} has dtype {table.dtype}, expected one of {', '.join(FLOAT_DTYPES)}", file)
    options = PrefixOptions(table.shape[0])
    plans = {
        name: TensorPlan(name, shape, table.dtype, (table,), partial(_columns, layer * width, (layer + 1) * width))
        for layer, (name, shape) in enumerate(prefix_shapes(options, config).items())
    }
    return Prefix(options, plans)


def _columns(begin: int, end: int, parts: list[np.ndarray]) -> np.ndarray:
    return parts[0][:, begin:end]
