"""``model.model_config`` as the configuration classes that MindFormers' scripts create.

A name that MindFormers' own class knows takes effect, or is known to request nothing; any other is refused. Defaults
are those of MindFormers' classes, not of our YAML files.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar

import mindspore as ms
from mindformers import PretrainedConfig
from mindformers.core.parallel_config import default_parallel_config
from pydantic import ValidationError

from mindcoder.sections.decoder_section import DecoderSection

# Names in MindFormers' classes -> our key.
OTHER_NAMES = {
    "attention_probs_dropout_prob": "attention_dropout_prob",
    "pad_token": "pad_token_id",
    "eos_token": "eos_token_id",
    "max_length": "max_decode_length",
}
# Names that MindFormers' classes set or read and that are only descriptive.
DESCRIPTIVE = frozenset(
    {
        "name_or_path", "_name_or_path", "_commit_hash", "_auto_class", "pretrained_model_dir", "mindformers_version",
        "transformers_version", "tokenizer_class", "architectures", "model_type", "model_name", "auto_map",
        "parallel_config", "op_parallel_config", "embed_parallel_config", "start_token_id", "auto_register",
        "track_max_attention_logit", "_from_model_config",
    }
)  # fmt: skip
# Known names, with the values that request nothing beyond what is done here.
ASKING_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "moe_config": (None,),
    "num_beams": (None, 1),
    "is_encoder_decoder": (None, False),
    "is_sample_acceleration": (None, False),
    "quantization": (None,),
    "quantization_config": (None,),
}


class DecoderPretrainedConfig(PretrainedConfig):
    """The YAML file's ``model.model_config`` in the form of a MindFormers configuration class.

    Subclasses name the section, its ``type`` if the section has several, and the defaults of MindFormers' class.

    Raises:
        TypeError: an unknown name; the message suggests the nearest known one.
        ValueError: an invalid value, two aliases with different values, or a feature that is not implemented
            (mixture of experts, quantization).
    """

    section_class: ClassVar[type[DecoderSection]]
    section_type: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **settings: Any) -> None:
        name = type(self).__name__
        own, others = self._divide(settings)
        given = set(own)
        values = {**self.defaults, **own}
        if "pad_token_id" not in given and (values.get("pad_token_id") or 0) >= values.get("vocab_size", 2**31):
            values["pad_token_id"] = None  # MindFormers' default is outside smaller vocabularies, and never occurs
        try:
            section = self.section_class(**{**values, "type": self.section_type})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            key = ".".join(map(str, problem["loc"]))
            raise ValueError(f"{name}: {key}: found {problem['input']!r}: {problem['msg']}") from None
        self.section = section
        plain = section.model_dump(exclude={"type"})
        # MindFormers' generator expects a list of end tokens.
        eos = plain["eos_token_id"]
        plain["eos_token_id"] = eos if isinstance(eos, list) else [] if eos is None else [eos]
        plain |= {theirs: plain[ours] for theirs, ours in OTHER_NAMES.items() if plain.get(theirs) is None}
        others.setdefault("parallel_config", default_parallel_config)
        others.setdefault("is_encoder_decoder", False)
        super().__init__(**{**plain, **others})

    def _divide(self, settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values of the section's keys, and those for MindFormers' base class."""
        name, fields = type(self).__name__, self.section_class.model_fields
        own: dict[str, Any] = {}
        others: dict[str, Any] = {}
        said: dict[str, str] = {}  # the name under which a key of the section was given
        for key, value in settings.items():
            target = OTHER_NAMES.get(key, key)
            if key == "type" or key == "embedding_size":
                expected = self.section_type if key == "type" else settings.get("hidden_size", value)
                if value != expected:
                    raise ValueError(f"{name}: {key} is {value!r}, expected {expected!r}")
            elif target in fields:
                value = _plain(value)
                before = said.get(target)
                if before is not None and own[target] != value:
                    raise ValueError(
                        f"{name}: {before} and {key} are the same setting: found {own[target]!r} and {value!r}"
                    )
                if value is not None:
                    own[target], said[target] = value, key
            elif key in ASKING_NOTHING:
                self._check_asks_nothing(key, value)
                others[key] = value
            elif key in DESCRIPTIVE:
                others[key] = value
            else:
                raise TypeError(f"{name}: unknown name {key!r}{_nearest(key, [*fields, *OTHER_NAMES])}")
        eos = own.get("eos_token_id")
        if isinstance(eos, list) and len(eos) == 1:  # the form in a saved configuration
            own["eos_token_id"] = eos[0]
        return own, others

    def _check_asks_nothing(self, key: str, value: Any) -> None:
        if key == "moe_config" and getattr(value, "expert_num", 1) == 1:
            return
        allowed = ASKING_NOTHING[key]
        if value not in allowed:
            raise ValueError(f"{type(self).__name__}: {key}={value!r} is not supported; expected {allowed[-1]!r}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration without values that are not plain data."""
        output = super().to_dict()
        output.pop("section", None)
        return output


def _plain(value: Any) -> Any:
    """MindSpore dtypes as their names, MindFormers' dictionaries as plain dictionaries."""
    if isinstance(value, type(ms.float32)):
        return str(value).lower()
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    return dict(value) if isinstance(value, Mapping) else value


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
