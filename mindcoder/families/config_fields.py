"""Reads ``config.json`` field by field: each field is read, known to have no effect, or refused by name.

Which fields matter was checked against the modeling code of transformers 4.57.1 (src/transformers/models/gpt_bigcode,
llama, starcoder2, modeling_rope_utils.py and configuration_utils.py of huggingface/transformers).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

# Fields of PretrainedConfig and of all causal models that choose outputs, tasks or sampling, not the network.
HARMLESS = """
    model_type transformers_version name_or_path use_cache return_dict output_hidden_states output_attentions
    torchscript use_bfloat16 tf_legacy_loss chunk_size_feed_forward gradient_checkpointing tokenizer_class prefix
    sep_token_id unk_token_id decoder_start_token_id cross_attention_hidden_size tie_encoder_decoder is_decoder
    finetuning_task id2label label2id num_labels task_specific_params problem_type classifier_dropout
    attn_implementation use_return_dict
    max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups diversity_penalty
    temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate
    forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens
"""
# Fields of all models of which only these values are implemented, unless the family reads them. None stands for null.
FIXED: Mapping[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
    "partial_rotary_factor": (1, None),
}
QUANTIZED = ("quantize", "quantization_config", "quantization", "compression_config", "sparsity_config", "quant_config")
DTYPES = ("float32", "float16", "bfloat16", "float64")


class ConfigFields:
    """The fields of a ``config.json``, read one by one; `finish` refuses those that were never read.

    Args:
        values: the parsed file.
        aliases: alternative names that transformers accepts: name -> the field it stands for.

    Raises:
        ValueError: a field and its alias disagree.
    """

    def __init__(self, values: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> None:
        self.values = dict(values)
        self.read: set[str] = set()
        for alias, name in (aliases or {}).items():
            if alias in self.values:
                value = self.values.pop(alias)
                if self.values.setdefault(name, value) != value:
                    raise ValueError(f"{alias} {shown(value)} and {name} {shown(self.values[name])} differ")

    def get(self, name: str, default: Any = None) -> Any:
        """The raw value of a field."""
        self.read.add(name)
        return self.values.get(name, default)

    def whole(self, name: str, default: int) -> int:
        """An integer of at least 1; upper bounds are checked by the model configuration."""
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name}: expected a whole number, found {shown(value)}")
        return value

    def optional_whole(self, name: str) -> int | None:
        """An integer of at least 1, or null."""
        return None if self.get(name) is None else self.whole(name, 0)

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        return as_number(name, self.get(name, default))

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected true or false, found {shown(value)}")
        return value

    def token(self, name: str, default: int | None = None) -> int | None:
        """A token id, the first of a list of ids, or null; -1 means none."""
        value = self.get(name, default)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not -1 <= value < 2**31):
            raise ValueError(f"{name}: expected a token id, found {shown(value)}")
        return None if value == -1 else value

    def choice(self, name: str, default: str, known: Sequence[str]) -> str:
        """One of the implemented names."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} {shown(value)} is not implemented; expected {' or '.join(known)}")
        return value

    def only(self, name: str, values: tuple[Any, ...]) -> None:
        """Refuse values that are not implemented."""
        if name in self.values and self.get(name) not in values:
            raise ValueError(f"{name} {shown(self.values[name])} is not implemented; expected {shown(values[0])}")

    def finish(self, class_name: str, harmless: str = "") -> None:
        """Refuse fields that were not read and are not known to have no effect.

        Args:
            class_name: model prefix in transformers, such as ``Llama``.
            harmless: the family's own fields without effect.

        Raises:
            ValueError: names the field.
        """
        for name in QUANTIZED:
            if self.get(name) is not None:
                raise ValueError(f"{name} {shown(self.values[name])}: quantized weights are not read")
        for name, values in FIXED.items():
            if name not in self.read:
                self.only(name, values)
        self._check_dtype()
        self._check_code(class_name)
        known = self.read | set(HARMLESS.split()) | set(harmless.split())
        for name in self.values:
            if name not in known and not name.startswith("_"):
                close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
                hint = f"; the nearest known field is {close[0]}" if close else ""
                raise ValueError(f"unknown field {shown(name)}: whether it changes the result is not known{hint}")

    def _check_dtype(self) -> None:
        """Accept ``dtype``, which transformers 4.56 and later write for ``torch_dtype``; tensors carry their own
        dtype.
        """
        found = [str(self.get(name)).removeprefix("torch.") for name in ("dtype", "torch_dtype") if self.get(name)]
        if len(set(found)) > 1:
            raise ValueError(f"dtype {found[0]} and torch_dtype {found[1]} differ")
        if found and found[0] not in DTYPES:
            raise ValueError(f"dtype {shown(found[0])} is not one of {', '.join(DTYPES)}")

    def _check_code(self, class_name: str) -> None:
        code = self.get("auto_map")
        if isinstance(code, Mapping) and any(str(name).startswith("AutoModel") for name in code):
            raise ValueError("auto_map names a network that comes as code with the weights; such code is never run")
        names = self.get("architectures") or []
        if not isinstance(names, list):
            raise ValueError(f"architectures: expected a list, found {shown(names)}")
        known = (f"{class_name}ForCausalLM", f"{class_name}Model")
        for name in names:
            if str(name).lower() not in [item.lower() for item in known]:
                raise ValueError(f"architectures {shown(name)} is not implemented; expected {known[0]}")


def check_layer_types(fields: ConfigFields, layers: int, kind: str) -> None:
    """Check ``layer_types`` of newer versions: all layers must have the same kind of attention.

    Raises:
        ValueError: another kind.
    """
    kinds = fields.get("layer_types")
    if kinds is not None and kinds != [kind] * layers:
        raise ValueError(f"layer_types {shown(kinds)}: expected {kind} for each of {layers} layers")


def as_number(name: str, value: Any) -> float:
    """A finite number.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer of hundreds of digits
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError(f"{name}: expected a number, found {shown(value)}")


def shown(value: Any) -> str:
    """A value formatted for a message, at most one line long."""
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)
    text = str(text)
    return text if len(text) <= 60 else text[:60] + "…"
