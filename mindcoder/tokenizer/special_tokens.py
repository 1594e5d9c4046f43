"""Special tokens of the StarCoder family, in id order (BigCode's tokenizer.json; StarCoder paper, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class InfillTokens:
    """Fill-in-the-middle tokens in prefix-suffix-middle order; ``stop`` ends the middle if it is not eos."""

    prefix: str
    suffix: str
    middle: str
    stop: str | None = None


# StarCoder and StarCoder2; SantaCoder; Code Llama (U+2581 is SentencePiece's space).
INFILL_TOKENS = (
    InfillTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    InfillTokens("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    InfillTokens("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),
)
FILL_HERE = "<FILL_ME>"  # marks the gap in a prompt, as in transformers' CodeLlamaTokenizer
