"""Fill-in-the-middle marks of code models: around a gap, and at repository level.

A family states the marks of its models; those of models that share a family with others are here. Which ones apply is
found in the tokenizer (`mindcoder.tokenizer.infill.marks_in`), so a family's folder need not repeat them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RepositoryForm:
    """How other files of a repository stand before the one with the gap. Places: ``{name}``, ``{path}``, ``{content}``.

    Attributes:
        head: before everything, if the repository has a name.
        file: one of the other files.
        current: before the file with the gap, if its path is known.
        inside: the same, behind the mark of the prefix.
        is_text: whether head, files and current stand behind the mark of the prefix too, because the model has no
            marks for them.
    """

    head: str = ""
    file: str = "#{path}\n{content}\n"
    current: str = ""
    inside: str = "#{path}\n"
    is_text: bool = True


@dataclass(frozen=True)
class InfillTokens:
    """Fill-in-the-middle tokens; ``stop`` ends the middle if it is not eos.

    Attributes:
        prefix, suffix, middle: marks; ``middle`` is empty where a model has none.
        order: ``psm`` is prefix, suffix, middle; ``spm`` puts the suffix and its mark first.
        ends: further tokens that end an answer, as far as a vocabulary has them.
        repository: the form at repository level, by default plain text.
        needs: tokens that tell these marks from another model's of the same names.
    """

    prefix: str
    suffix: str
    middle: str
    stop: str | None = None
    order: Literal["psm", "spm"] = "psm"
    ends: tuple[str, ...] = ()
    repository: RepositoryForm = RepositoryForm()
    needs: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[str, ...]:
        """Tokens without which a vocabulary is not that of these marks."""
        marks = (self.prefix, self.suffix, self.middle, self.stop, *self.needs)
        return tuple(mark for mark in marks if mark)


# github.com/deepseek-ai/DeepSeek-Coder, README: code insertion; files of a repository follow a line "#path".
DEEPSEEK_CODER = InfillTokens("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
# Seed-Coder (ByteDance Seed 2025), section on fill-in-the-middle: suffix first.
SEED_CODER = InfillTokens("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", order="spm")
# github.com/aixcoder-plugin/aiXcoder-7B, README; U+2581 is SentencePiece's space.
AIXCODER = InfillTokens("▁<AIX-SPAN-PRE>", "▁<AIX-SPAN-POST>", "▁<AIX-SPAN-MIDDLE>")
# github.com/mistralai/mistral-common, encode_fim: [SUFFIX] suffix [PREFIX] prefix, no mark of the middle; the line
# before a file is what github.com/continuedev/continue sends.
CODESTRAL = InfillTokens(
    "[PREFIX]",
    "[SUFFIX]",
    "",
    order="spm",
    repository=RepositoryForm(file="+++++ {path}\n{content}\n\n", inside="+++++ {path}\n"),
)
# ai.google.dev/gemma/docs/codegemma: the marks of Qwen, and a separator of files that ends the middle.
CODEGEMMA = InfillTokens(
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|file_separator|>",
    repository=RepositoryForm("", "{path}\n{content}<|file_separator|>", "", "{path}\n", False),
)
OTHER_MARKS = (DEEPSEEK_CODER, SEED_CODER, AIXCODER, CODESTRAL, CODEGEMMA)
