"""Valid ranges of a model's configuration fields, whatever file they come from."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

# Upper bounds: far above every published decoder, and low enough that counting parameters is instant.
LARGEST = {
    "vocab_size": 2**24,
    "padded_vocab_size": 2**24,
    "hidden_size": 2**18,
    "num_layers": 4096,
    "num_heads": 2**14,
    "num_kv_heads": 2**14,
    "intermediate_size": 2**22,
    "max_position_embeddings": 2**30,
    "head_dim": 2**16,
    "rotary_dim": 2**16,
    "sliding_window": 2**31 - 1,
}
MAY_BE_ZERO = ("padded_vocab_size", "head_dim", "rotary_dim")  # 0 means: derived from other fields
RATES = ("embedding_dropout", "attention_dropout", "hidden_dropout")
NUMBERS = {
    "norm_epsilon": (0.0, 1.0),
    "rope_theta": (1.0, 1e12),
    "initializer_range": (0.0, 1e3),
    "norm_offset": (0.0, 1.0),
    "attention_multiplier": (0.0, 1e3),
    "embedding_multiplier": (1e-6, 1e6),
    "residual_multiplier": (1e-6, 1e3),
    "logits_scaling": (1e-6, 1e6),
}
FLAGS = ("gated_mlp", "qkv_bias", "output_bias", "mlp_bias", "tied_head", "scale_attention", "qk_norm")
DTYPES = ("float32", "float16", "bfloat16")
DTYPE_FIELDS = ("param_dtype", "compute_dtype", "norm_dtype", "softmax_dtype")
SMALLEST_FLOAT = 1e-37  # representable in float32 without loss; a smaller epsilon would have no effect


def check_bounds(config: Any) -> None:
    """Check every field of a model configuration (a dataclass) against its valid range.

    Raises:
        ValueError: names the first invalid field, its value and what is expected.
    """
    values = vars(config)
    for name, most in LARGEST.items():
        value = values[name]
        if value is None and name == "sliding_window":
            continue
        least = 0 if name in MAY_BE_ZERO else 1
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number, found {_shown(value)}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, found {_shown(value)}")
        if value > most:
            raise ValueError(f"{name} must be at most {most}, found {_shown(value)}")
    for name in RATES:
        if not _is_number(values[name]) or not 0 <= values[name] < 1:
            raise ValueError(f"{name} must be a rate from 0 and below 1, found {_shown(values[name])}")
    for name, (low, high) in NUMBERS.items():
        value = values[name]
        if not _is_number(value) or not low <= value <= high or (value and value < SMALLEST_FLOAT):
            raise ValueError(f"{name} must be a number from {low:g} to {high:g}, found {_shown(value)}")
    for name in FLAGS:
        if not isinstance(values[name], bool):
            raise ValueError(f"{name} must be true or false, found {_shown(values[name])}")
    for name, known in {**_choices(type(config)), **dict.fromkeys(DTYPE_FIELDS, DTYPES)}.items():  # type: ignore[arg-type]
        if values[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, found {_shown(values[name])}")


@functools.cache
def _choices(kind: type) -> dict[str, tuple[str, ...]]:
    """The allowed names of each field that is annotated with a Literal."""
    return {name: get_args(hint) for name, hint in get_type_hints(kind).items() if get_origin(hint) is Literal}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, int | float) and abs(value) < 1e30 else repr(value)[:60]
    return text if len(text) <= 60 else text[:60] + "…"
