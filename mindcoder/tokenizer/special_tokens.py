"""Special tokens of the StarCoder family, in id order (BigCode's tokenizer.json; StarCoder paper, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from mindcoder.families.infill_tokens import OTHER_MARKS, InfillTokens
from mindcoder.families.registry import FAMILIES

END_OF_TEXT = "<|endoftext|>"
PAD = "[PAD]"  # WizardCoder appends it as id 49152

STARCODER_SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<empty_output>",
    "<commit_before>",
    "<commit_msg>",
    "<commit_after>",
    "<reponame>",
)


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens around a text.

    Attributes:
        eos: ends every text.
        pad: pads rows; None for the default, see `mindcoder.tokenizer.code_tokenizer.CodeTokenizer`.
        bos: begins a text if ``add_bos`` is set.
    """

    eos: str = END_OF_TEXT
    pad: str | None = PAD
    bos: str | None = None
    add_bos: bool = False


INFILL_TOKENS: tuple[InfillTokens, ...] = tuple(
    dict.fromkeys((*(tokens for family in FAMILIES.values() for tokens in family.infill), *OTHER_MARKS))
)
FILL_HERE = "<FILL_ME>"  # marks the gap in a prompt, as in transformers' CodeLlamaTokenizer
