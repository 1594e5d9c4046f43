"""What a model family states; everything else that a family needs is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from mindcoder.families.config_fields import ConfigFields
from mindcoder.families.fields import Field
from mindcoder.families.gguf_form import GgufForm
from mindcoder.families.infill_tokens import InfillTokens
from mindcoder.families.prompt_template import PromptTemplate
from mindcoder.families.scale_folds import ScaleFold, pre_norm_folds
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.families.weight_table import WeightTable
from mindcoder.sections.decoder_section import DecoderSection


@dataclass(frozen=True)
class FieldMap:
    """``config.json`` of a family.

    Attributes:
        fields: in the order in which they are written; a field may need what those before it have read.
        fixed: fields of `TransformerConfig` with one value for the whole family.
        aliases: names that transformers accepts besides: name -> the field it stands for.
        harmless: names of fields without effect on the network, separated by spaces.
    """

    fields: tuple[Field, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    harmless: str = ""


@dataclass(frozen=True)
class OtherArchitecture:
    """Another name in ``model.arch.type`` for one of the family's architectures.

    Attributes:
        name: what a file may say.
        architecture: what it is read as.
        remark: what a run says about it, after "is read as".
        has_lora: whether the name asks for a LoRA adapter.
    """

    name: str
    architecture: str
    remark: str
    has_lora: bool = False


@dataclass(frozen=True, eq=False)
class MindFormersClasses:
    """The names under which a family is registered in MindFormers, which keeps some names for classes of its own.

    Attributes:
        section_type: ``model.model_config.type`` that the configuration class stands for.
        config, model, tokenizer: class names.
        model_type: of the configuration class.
        defaults: of MindFormers' own configuration class, where they differ from the section's.
    """

    section_type: str
    config: str
    model: str
    tokenizer: str
    model_type: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A model family: an architecture, and what its files call the parts.

    Attributes:
        model_type: in ``config.json``.
        class_prefix: of the classes in transformers, such as ``Llama``.
        field_map: of ``config.json``.
        weights: names of the tensors in Hugging Face's files.
        section: schema of ``model.model_config``.
        network: the network that a section describes.
        architectures: ``model.model_config.type`` -> the ``model.arch.type`` that belongs to it.
        other_architectures: further names in ``model.arch.type``.
        tokenizers: names in ``processor.tokenizer.type``.
        templates: prompt templates of the family's instruction-tuned models, by name.
        default_template: of a model that does not say what it was trained with; base models want ``plain``.
        infill: fill-in-the-middle tokens of its models, of which a vocabulary has one set; further ones are in
            `mindcoder.families.infill_tokens`.
        mindformers: what the family is called in MindFormers.
        gguf: the family in GGUF files; None if they cannot say it.
        scale_folds: where per-channel input scales can be folded, see `mindcoder.families.scale_folds`.
    """

    model_type: str
    class_prefix: str
    field_map: FieldMap
    weights: WeightTable
    section: type[DecoderSection]
    network: Callable[[Any], TransformerConfig]
    architectures: Mapping[str, str]
    tokenizers: tuple[str, ...]
    templates: Mapping[str, PromptTemplate]
    default_template: str
    other_architectures: tuple[OtherArchitecture, ...] = ()
    infill: tuple[InfillTokens, ...] = ()
    mindformers: tuple[MindFormersClasses, ...] = ()
    gguf: GgufForm | None = None
    scale_folds: Callable[[TransformerConfig], tuple[ScaleFold, ...]] = pre_norm_folds

    def __post_init__(self) -> None:
        types = get_args(self.section.model_fields["type"].annotation)
        if types != tuple(self.architectures):
            raise ValueError(f"{self.model_type}: the section has types {types}, expected {[*self.architectures]}")

    def config_from_huggingface(self, config: Mapping[str, Any]) -> TransformerConfig:
        """Read a ``config.json``, with the field names and defaults of the family's class in transformers.

        Raises:
            ValueError: a field is unknown, or has a value that is not implemented for this family.
        """
        fields = ConfigFields(config, self.field_map.aliases)
        found: dict[str, Any] = {"model_type": self.model_type, **self.field_map.fixed}
        for item in self.field_map.fields:
            item.read(fields, found)
        network = TransformerConfig(**found)
        fields.finish(self.class_prefix, self.field_map.harmless)
        return network

    def config_to_huggingface(self, config: TransformerConfig) -> dict[str, Any]:
        """Write a ``config.json`` that transformers reads.

        Raises:
            ValueError: the family has no such network.
        """
        for name, value in self.field_map.fixed.items():
            if getattr(config, name) != value:
                raise ValueError(f"{name} is {getattr(config, name)}; every {self.class_prefix} has {value}")
        written: dict[str, Any] = {
            "architectures": [f"{self.class_prefix}ForCausalLM"],
            "model_type": self.model_type,
        }
        for item in self.field_map.fields:
            written.update(item.write(config))
        return written
