"""Converts the generation settings of MindFormers' scripts to our engine's options.

The names and their meaning are those of mindformers 1.9, generation/generation_config.py and text_generator.py: a
``GenerationConfig`` is the base if one is given, the model's configuration otherwise, and arguments override both.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mindcoder.generate.sampler import SamplingOptions

log = logging.getLogger(__name__)

SUPPORTED = (
    "max_length",
    "max_new_tokens",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "eos_token_id",
    "pad_token_id",
    "return_dict_in_generate",
)
# Known names, with the values that request nothing beyond what is done here.
ASKING_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "encoder_repetition_penalty": (1.0,),
    "renormalize_logits": (False,),
    "output_scores": (False,),
    "output_logits": (False,),
    "parallel_decoding": (False,),
    "is_sample_acceleration": (False,),
    "streamer": (),
    "logits_processor": ([],),
}
# Passed on by Trainer.predict and pipeline; the engine always behaves as with use_past.
IGNORED = frozenset(
    {
        "use_past", "is_full_config", "batch_size", "bos_token_id", "window_size", "level", "guess_set_size",
        "_from_model_config", "generation_mode", "None", "model_name",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Generation:
    """Settings of one ``generate`` call.

    Attributes:
        options: sampling options.
        eos: stop ids.
        pad: id that pads rows at their end.
        max_length: of prompt and answer together.
        max_new_tokens: of the answer; overrides ``max_length``.
        as_dictionary: whether to return ``{"sequences": ...}``.
    """

    options: SamplingOptions
    eos: frozenset[int]
    pad: int | None
    max_length: int
    max_new_tokens: int | None
    as_dictionary: bool


def read_generation(model: Any, generation_config: Any = None, seed: int | None = None, **arguments: Any) -> Generation:
    """Merge the model's configuration, a ``GenerationConfig`` and arguments.

    Args:
        model: `DecoderPretrainedConfig`.
        generation_config: of MindFormers or transformers; replaces the model's settings entirely.
        seed: of sampling.
        arguments: of ``generate``; None means not given.

    Raises:
        TypeError: an unknown name; the message suggests the nearest known one.
        ValueError: a feature that is not implemented, such as beam search.
    """
    base = _of_model(model) if generation_config is None else _of_generation_config(generation_config)
    given = {**base, **{name: value for name, value in arguments.items() if value is not None}}
    values = {name: given[name] for name in SUPPORTED if given.get(name) is not None}
    _check([*given.items()])
    eos = values.get("eos_token_id", [])
    length = values.get("max_length", model.max_decode_length or model.seq_length)
    if length > model.seq_length:
        log.warning("max_length %d: the model's seq_length %d is the limit", length, model.seq_length)
        length = model.seq_length
    options = SamplingOptions(
        bool(values.get("do_sample", False)),
        float(values.get("temperature", 1.0)),
        int(values.get("top_k", 0)),
        float(values.get("top_p", 1.0)),
        float(values.get("repetition_penalty", 1.0)),
        seed or 0,
    )
    return Generation(
        options,
        frozenset(eos if isinstance(eos, Iterable) else [eos]),
        values.get("pad_token_id", model.pad_token_id),
        length,
        values.get("max_new_tokens"),
        bool(values.get("return_dict_in_generate", False)),
    )


def _of_model(model: Any) -> dict[str, Any]:
    """The model's configuration, as ``GenerationConfig.from_model_config`` reads it."""
    values = {name: getattr(model, name, None) for name in SUPPORTED}
    return {**values, "max_length": model.max_decode_length or model.seq_length}


def _of_generation_config(given: Any) -> dict[str, Any]:
    """Every setting that we support, and others that differ from the class's defaults."""
    usual = vars(type(given)())
    own = {name: value for name, value in vars(given).items() if not name.startswith("_")}
    return {name: value for name, value in own.items() if name in SUPPORTED or value != usual.get(name)}


def _check(items: Iterable[tuple[str, Any]]) -> None:
    for name, value in items:
        if name in SUPPORTED or name in IGNORED or value is None:
            continue
        if name not in ASKING_NOTHING:
            close = difflib.get_close_matches(name, [*SUPPORTED, *ASKING_NOTHING, *IGNORED], n=1, cutoff=0.6)
            raise TypeError(f"generate: unknown argument {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        allowed = ASKING_NOTHING[name]
        if value not in allowed and not (name == "logits_processor" and len(value) == 0):
            expected = f"; expected {allowed[0]!r}" if allowed else ""
            raise ValueError(f"generate: {name}={value!r} is not supported{expected}")
