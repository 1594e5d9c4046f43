"""Encodes records as token ids and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindcoder.data.conversation import Message, encode_turns
from mindcoder.data.infill import InfillOptions, InfillRearranger
from mindcoder.data.own_template import own_labels
from mindcoder.data.prompt import DEFAULT_TEMPLATE, OWN, TEMPLATES, build_prompt
from mindcoder.data.readers import Conversation, Document, Record
from mindcoder.errors import UserError
from mindcoder.tokenizer import CodeTokenizer

IGNORED_LABEL = -100


@dataclass(frozen=True)
class Example:
    """Token ids (int32) of prompt, answer and end of text, and the label of each position (the id itself, or -100).

    ``labels[i]`` belongs to ``input_ids[i]``, as in Hugging Face; the loader shifts them by one.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    truncated: bool
    record: int = -1  # index of the record it was made from, if records are numbered

    @property
    def answer_tokens(self) -> int:
        """Number of positions with a label."""
        return int((self.labels != IGNORED_LABEL).sum())


def encode_record(
    record: Record, tokenizer: CodeTokenizer, max_length: int, template: str = DEFAULT_TEMPLATE
) -> Example | None:
    """Encode prompt and answer together and mask the prompt.

    The text is tokenized as a whole, as in generation, and the boundary is found by character offsets. A token that
    spans the boundary belongs to the answer: it contains answer characters, which must be learned. (Tokenizing the
    prompt separately gives another split at the boundary, and labels that are off by one.)

    Returns:
        None if the prompt fills ``max_length`` and leaves no token for the answer.

    Raises:
        UserError: the model's own chat template refuses it.
    """
    if template == OWN:
        question = Message("user", record.instruction, record.input)
        return _in_own_template((question, Message("assistant", record.output)), tokenizer, max_length)
    prompt = build_prompt(record.instruction, record.input, template)
    answer = TEMPLATES[template].before_answer + record.output + TEMPLATES[template].after_answer
    ids, boundary = tokenizer.encode_at(prompt + answer, len(prompt))
    if boundary >= max_length:
        return None
    truncated = len(ids) + 1 > max_length
    input_ids = np.array([*ids, tokenizer.eos_id][:max_length], np.int32)
    labels = input_ids.copy()
    labels[:boundary] = IGNORED_LABEL
    return Example(input_ids, labels, truncated)


def encode_messages(
    conversation: Conversation, tokenizer: CodeTokenizer, max_length: int, template: str = DEFAULT_TEMPLATE
) -> Example | None:
    """Encode all turns; only answers are learned, each followed by the end of text (`Message.learned`).

    The ids are those that `mindcoder.data.conversation.encode_conversation` returns at inference.

    Returns:
        None if no token of an answer is within ``max_length``.

    Raises:
        UserError: the model's own chat template refuses it.
    """
    if template == OWN:
        return _in_own_template(conversation.messages, tokenizer, max_length)
    ids: list[int] = []
    labels: list[int] = []
    for turn, is_learned in encode_turns(conversation.messages, template, tokenizer):
        ids += turn
        labels += turn if is_learned else [IGNORED_LABEL] * len(turn)
    kept = np.array(labels[:max_length], np.int32)
    if (kept == IGNORED_LABEL).all():
        return None
    return Example(np.array(ids[:max_length], np.int32), kept, len(ids) > max_length)


def _in_own_template(messages: Sequence[Message], tokenizer: CodeTokenizer, max_length: int) -> Example | None:
    ids, learned = own_labels(messages, tokenizer)
    if not any(learned[:max_length]):
        return None
    kept = np.array(ids[:max_length], np.int32)
    labels = np.where(learned[:max_length], kept, np.int32(IGNORED_LABEL))
    return Example(kept, labels, len(ids) > max_length)


def encode_document(
    document: Document, tokenizer: CodeTokenizer, max_length: int, infill: InfillOptions = InfillOptions()
) -> list[Example]:
    """Encode a plain text, of which every token is learned. A text that is too long becomes several examples.

    Args:
        infill: share of the documents that are rearranged for fill-in-the-middle (Bavarian et al. 2022).
    """
    rearranger = InfillRearranger(tokenizer, infill) if infill.rate > 0 else None
    room = max_length - (rearranger.extra_tokens if rearranger else 0)
    if room < 1:
        raise UserError(f"seq_length {max_length} leaves no room for text beside the marks of gaps to fill")
    ids = [*tokenizer.encode(document.content), tokenizer.eos_id]
    examples = []
    for start in range(0, len(ids), room):
        piece = ids[start : start + room]
        if rearranger is not None:
            piece = rearranger.maybe(piece, (document.file, document.index, start))
        values = np.array(piece, np.int32)
        examples.append(Example(values, values.copy(), False))
    return examples
