"""``model``: ``model.model_config`` of any family, and ``model.arch``, under MindFormers' names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

from pydantic import Discriminator, Field, model_validator

from mindcoder.families.base import OtherArchitecture
from mindcoder.families.registry import FAMILIES, family_of_type
from mindcoder.sections.decoder_section import DecoderSection
from mindcoder.sections.pet_section import PetSection
from mindcoder.sections.section import Section

DEFAULT_TYPE = "WizardCoderConfig"
OTHER_ARCHITECTURES: dict[str, OtherArchitecture] = {
    other.name: other for family in FAMILIES.values() for other in family.other_architectures
}
ARCHITECTURES = tuple(
    dict.fromkeys(
        name
        for family in FAMILIES.values()
        for name in (*family.architectures.values(), *(other.name for other in family.other_architectures))
    )
)
if TYPE_CHECKING:
    AnyModelSection: TypeAlias = DecoderSection
    ArchitectureName: TypeAlias = str
else:
    AnyModelSection = Union[tuple(family.section for family in FAMILIES.values())]  # noqa: UP007
    ArchitectureName = Literal[ARCHITECTURES]


class ArchPet(Section):
    """``model.arch.pet``."""

    pet_type: Literal["lora"] = Field("lora", description="kind of adapter")
    pet_config: PetSection = Field(PetSection(), description="adapter's keys, as in model_config.pet_config")


class ArchSection(Section):
    """``model.arch``; must name the class that belongs to ``model_config.type``."""

    type: ArchitectureName | None = Field(None, description="has to be the class that belongs to model_config.type")
    pet: ArchPet | None = Field(None, description="r0.6's place of model_config.pet_config")

    @property
    def model_class(self) -> str | None:
        """The class name without layout and adapter suffixes, which are configured elsewhere."""
        return OTHER_ARCHITECTURES[self.type].architecture if self.type in OTHER_ARCHITECTURES else self.type

    @property
    def has_lora(self) -> bool:
        """Whether the class's name asks for a LoRA adapter."""
        return self.type in OTHER_ARCHITECTURES and OTHER_ARCHITECTURES[self.type].has_lora


class ModelSection(Section):
    """``model``."""

    settings: Annotated[AnyModelSection, Discriminator("type")] = Field(
        default_factory=family_of_type(DEFAULT_TYPE).section,
        alias="model_config",
        description="sizes, dtypes and generation keys; its type selects the family",
    )
    arch: ArchSection = Field(ArchSection(), description="MindFormers' class of the network")

    @model_validator(mode="before")
    @classmethod
    def _default_type(cls, data: Any) -> Any:
        """A ``model_config`` without ``type`` is WizardCoder's, which once was the only one."""
        settings = data.get("model_config") if isinstance(data, dict) else None
        if isinstance(settings, dict) and "type" not in settings:
            return {**data, "model_config": {"type": DEFAULT_TYPE, **settings}}
        return data
