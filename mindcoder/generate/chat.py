"""A conversation with a model: its turns, its commands, and answers as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.errors import UserError
from mindcoder.files import write_text
from mindcoder.generate.model import Model
from mindcoder.generate.request import FinishReason, Request
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.generate.text import StoppedText

SHORTEST_ANSWER = 16  # tokens that are kept free for it


@dataclass(frozen=True)
class Spoken:
    """How an answer went.

    Attributes:
        prompt_tokens: of the whole conversation before it; ``reused`` of them were in the cache from before.
        forgotten: oldest turns that no longer fit into the model's context.
    """

    prompt_tokens: int
    reused: int
    tokens: int
    first_token: float
    seconds: float
    finish_reason: FinishReason
    forgotten: int

    def __str__(self) -> str:
        rate = (self.tokens - 1) / self.seconds if self.seconds > 0 else 0.0
        cached = f", {self.reused} cached" if self.reused else ""
        dropped = f"; the oldest {self.forgotten} messages no longer fit" if self.forgotten else ""
        return (
            f"{self.tokens} tokens ({self.finish_reason}), {rate:.1f} tokens/s, first after {self.first_token:.2f} s "
            f"(prompt {self.prompt_tokens}{cached}){dropped}"
        )


class Chat:
    """Turns with one model.

    Args:
        model: answers.
        options: how it chooses tokens.
        max_new_tokens: longest answer.
        system: system message.

    Attributes:
        last: how the last answer went.
    """

    def __init__(
        self, model: Model, options: SamplingOptions, max_new_tokens: int | None = None, system: str = ""
    ) -> None:
        self.model, self.options, self.max_new_tokens, self.system = model, options, max_new_tokens, system
        self.messages: list[Message] = []
        self.last: Spoken | None = None

    def ask(self, question: str) -> Iterator[str]:
        """The answer, piece by piece. Closing the iterator stops it; what came so far stays in the conversation.

        Raises:
            UserError: the question alone is too long.
        """
        self.messages.append(Message("user", question))
        try:
            prompt, forgotten = self._prompt()
        except UserError:
            self.messages.pop()
            raise
        engine = self.model.engine
        sequence = engine.submit(Request(tuple(prompt), self.options, self.max_new_tokens))
        text = StoppedText(self.model.tokenizer)
        began, first_token = time.perf_counter(), 0.0
        try:
            while sequence.finish_reason is None:
                for event in engine.step():
                    first_token = first_token or time.perf_counter() - began
                    if event.choice is not None:
                        yield text.push(event.choice.token)
            yield text.finish()
        finally:
            engine.cancel(sequence)
            self.messages.append(Message("assistant", text.text))
            seconds = time.perf_counter() - began - first_token
            reason = sequence.finish_reason or "cancelled"
            self.last = Spoken(
                len(prompt), sequence.reused, len(sequence.answer), first_token, seconds, reason, forgotten
            )

    def _prompt(self) -> tuple[list[int], int]:
        """Token ids of the conversation, and how many of its oldest messages were left out to make it fit."""
        room = self.model.engine.max_length - SHORTEST_ANSWER
        system = [Message("system", self.system)] if self.system else []
        for forgotten in range(0, len(self.messages), 2):
            turns = [*system, *self.messages[forgotten:]]
            prompt = encode_conversation(turns, self.model.template, self.model.tokenizer)
            if len(prompt) <= room:
                return prompt, forgotten
        raise UserError(f"the question has {len(prompt)} tokens with its template; {room} fit (--max_length)")

    def reset(self) -> None:
        """Forget the conversation; the system message stays."""
        self.messages.clear()

    def save(self, file: str | Path) -> None:
        """Write the conversation as JSON."""
        content = {"system": self.system, "messages": [asdict(message) for message in self.messages]}
        try:
            write_text(Path(file), json.dumps(content, ensure_ascii=False, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot be written: {error.strerror}", file) from None

    def load(self, file: str | Path) -> None:
        """Go on with a saved conversation.

        Raises:
            UserError: not there, or not a conversation.
        """
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
            messages = [Message(item["role"], str(item["content"])) for item in content["messages"]]
            system = str(content.get("system", ""))
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", file) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError("is no saved conversation", file) from None
        if [message.role for message in messages] != ["user", "assistant"] * (len(messages) // 2):
            raise UserError("is no saved conversation: user and assistant do not take turns", file)
        self.messages, self.system = messages, system
