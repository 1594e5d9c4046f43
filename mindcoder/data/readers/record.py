"""The form of records after reading, independent of their layout."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from mindcoder.data.conversation import Message
from mindcoder.errors import UserError


@dataclass(frozen=True)
class Source:
    """Origin of a record, and content that is not used.

    Attributes:
        file: file name.
        index: of the record in it, from 0.
        line: in JSONL, from 1.
        unread: names of non-empty fields that are not read.
        remark: what was dropped from the text itself, such as a first answer without a question.
        raw: the JSON object, if the reader was asked to keep it.
    """

    file: str
    index: int
    line: int | None
    unread: tuple[str, ...] = field(default=(), kw_only=True, compare=False)
    remark: str = field(default="", kw_only=True, compare=False)
    raw: dict[str, Any] | None = field(default=None, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True)
class Record(Source):
    """One question and its answer."""

    instruction: str
    input: str
    output: str

    def texts(self) -> tuple[str, ...]:
        """The texts of the record."""
        return (self.instruction, self.input, self.output)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"instruction": self.instruction, "input": self.input, "output": self.output}


@dataclass(frozen=True)
class Conversation(Source):
    """Several turns, or one with a system message."""

    messages: tuple[Message, ...] = field(default=())

    def texts(self) -> tuple[str, ...]:
        """The texts of the record."""
        return tuple(text for item in self.messages for text in (item.content, item.context) if text)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"messages": [message_fields(item) for item in self.messages]}


@dataclass(frozen=True)
class Document(Source):
    """Code or prose; every token is learned."""

    content: str

    def texts(self) -> tuple[str, ...]:
        """The texts of the record."""
        return (self.content,)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"text": self.content}


@dataclass(frozen=True)
class Pair(Source):
    """A preference pair: two answers to the same prompt.

    Attributes:
        prompt: the turns before the answer; one question in most datasets.
        chosen, rejected: the answers.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str

    @property
    def is_single(self) -> bool:
        """Whether the prompt is a single question."""
        return len(self.prompt) == 1 and self.prompt[0].role == "user"

    def texts(self) -> tuple[str, ...]:
        """The texts of the record."""
        if self.is_single:
            return (self.prompt[0].content, self.prompt[0].context, self.chosen, self.rejected)
        return (*(item.content for item in self.prompt), self.chosen, self.rejected)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        if self.is_single:
            return dict(zip(("instruction", "input", "chosen", "rejected"), self.texts()))
        prompt = [message_fields(item) for item in self.prompt]
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (self.chosen, self.rejected))
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}

    def records(self) -> tuple[Record | Conversation, Record | Conversation]:
        """The prompt with either answer; only that answer is learned."""
        first, second = (self._with(text) for text in (self.chosen, self.rejected))
        return first, second

    def _with(self, answer: str) -> Record | Conversation:
        origin = (self.file, self.index, self.line)
        if self.is_single:
            return Record(*origin, self.prompt[0].content, self.prompt[0].context, answer)
        before = tuple(replace(item, learned=False) for item in self.prompt)
        return Conversation(*origin, (*before, Message("assistant", answer)))


AnyRecord = Record | Conversation | Document | Pair


@dataclass(frozen=True)
class BadRecord:
    """An unusable record: why, and its text.

    ``broken`` ones stop a run that was not told to skip them. The others are well formed but there is nothing to learn
    from them (an empty answer, a prompt that leaves no room for one); they are counted and listed.
    """

    file: str
    index: int
    line: int | None
    reason: str
    text: str
    broken: bool = True

    def error(self) -> UserError:
        """The one-line error about it."""
        return UserError(f"record {self.index}: {self.reason}", self.file, self.line)


def message_fields(message: Message) -> dict[str, Any]:
    """A turn in OpenAI's format; ``input`` is the context that Alpaca's template shows separately."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.context:
        found["input"] = message.context
    if message.role == "assistant" and not message.learned:
        found["weight"] = 0
    return found
