"""A record as token ids and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindcoder.data.prompt import DEFAULT_TEMPLATE, TEMPLATES, build_prompt
from mindcoder.data.readers import Record
from mindcoder.tokenizer import CodeTokenizer

IGNORED_LABEL = -100


@dataclass(frozen=True)
class Example:
    """Token ids (int32) of prompt, answer and end of text, and the label of each position (the id itself, or -100).

    ``labels[i]`` belongs to ``input_ids[i]``, as in Hugging Face; shifting by one is the loader's work.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    truncated: bool

    @property
    def answer_tokens(self) -> int:
        """How many positions have a label."""
        return int((self.labels != IGNORED_LABEL).sum())


def encode_record(
    record: Record, tokenizer: CodeTokenizer, max_length: int, template: str = DEFAULT_TEMPLATE
) -> Example | None:
    """Encode prompt and answer together and mask the prompt.

    The text is tokenized as a whole, as it is at generation time, and the boundary is found by character offsets. A
    token that spans the seam belongs to the answer: it carries answer characters, which must be learnt. (Tokenizing
    the prompt alone gives another split at the seam and labels that are off by one.)

    Returns:
        None when the prompt alone fills ``max_length``, so that no answer token would be left.
    """
    prompt = build_prompt(record.instruction, record.input, template)
    answer = TEMPLATES[template].before_answer + record.output
    ids, boundary = tokenizer.encode_at(prompt + answer, len(prompt))
    if boundary >= max_length:
        return None
    truncated = len(ids) + 1 > max_length
    input_ids = np.array([*ids, tokenizer.eos_id][:max_length], np.int32)
    labels = input_ids.copy()
    labels[:boundary] = IGNORED_LABEL
    return Example(input_ids, labels, truncated)
