"""``processor``: tokenizer and prompt template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from mindcoder.families.registry import FAMILIES
from mindcoder.families.templates import TEMPLATE_NAMES
from mindcoder.sections import mindformers
from mindcoder.sections.section import Describes, Ours

if TYPE_CHECKING:
    TokenizerName: TypeAlias = str
    TemplateName: TypeAlias = str
else:
    TokenizerName = Literal[tuple(name for family in FAMILIES.values() for name in family.tokenizers)]
    TemplateName = Literal[TEMPLATE_NAMES]


class TokenizerSection(mindformers.TokenizerSection):
    """``processor.tokenizer``."""

    type: Annotated[TokenizerName, Describes("the vocabulary's file says what it is")] = "WizardCoderTokenizer"
    vocab_file: str | None = Field(
        None, description="vocab.json, tokenizer.json, tokenizer.model, or a folder; empty: the one beside the weights"
    )
    merge_file: str | None = Field(None, description="merges.txt that belongs to a vocab.json")
    merges_file: str | None = Field(None, description="another name of merge_file")
    tokenizer_file: str | None = Field(None, description="tokenizer.json, under Hugging Face's name")
    pad_token: str | None = Field(None, description="padding token by its text; default: the tokenizer's own")
    add_bos_token: bool | None = Field(
        None, description="begin texts with the bos token; default: as the tokenizer's files say"
    )

    @property
    def is_given(self) -> bool:
        """Whether the file or a flag names a tokenizer."""
        return bool(self.vocab_file or self.tokenizer_file)


class ProcessorSection(mindformers.ProcessorSection):
    """``processor``."""

    prompt_template: Annotated[TemplateName, Ours()] = Field(
        "wizardcoder", description="text around instruction and answer, in training and when asking"
    )
    tokenizer: TokenizerSection = Field(TokenizerSection(), description="files of the tokenizer")
