"""A conversation with a model: its turns, its commands, and answers as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.errors import UserError
from mindcoder.files import read_json_object, write_text
from mindcoder.generate.model import Model
from mindcoder.generate.request import FinishReason, Request
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.generate.speculative import SpeculativeDecoder
from mindcoder.generate.text import StoppedText

SHORTEST_ANSWER = 16  # tokens that are kept free for it


@dataclass(frozen=True)
class AnswerStats:
    """What is known of a finished answer.

    Attributes:
        prompt_tokens: of the whole conversation before it; ``reused`` of them were in the cache from before.
        forgotten: oldest turns that no longer fit into the model's context.
        acceptance: share of a draft model's proposals that were kept.
    """

    prompt_tokens: int
    reused: int
    tokens: int
    first_token: float
    seconds: float
    finish_reason: FinishReason
    forgotten: int
    acceptance: float | None = None

    def __str__(self) -> str:
        rate = (self.tokens - 1) / self.seconds if self.seconds > 0 else 0.0
        cached = f", {self.reused} cached" if self.reused else ""
        dropped = f"; the oldest {self.forgotten} messages no longer fit" if self.forgotten else ""
        drafted = "" if self.acceptance is None else f", {self.acceptance:.0%} of the draft's tokens accepted"
        return (
            f"{self.tokens} tokens ({self.finish_reason}), {rate:.1f} tokens/s, first after {self.first_token:.2f} s "
            f"(prompt {self.prompt_tokens}{cached}){drafted}{dropped}"
        )


@dataclass
class _Progress:
    """What is known of an answer while it is generated."""

    tokens: int = 0
    reused: int = 0
    reason: FinishReason = "cancelled"
    acceptance: float | None = None


class Chat:
    """Turns with one model.

    Args:
        model: answers.
        options: how it chooses tokens.
        max_new_tokens: longest answer.
        system: system message.
        speculative: computes the answers with a draft model's help, greedily.

    Attributes:
        adapter: name of the one that answers; at first the engine's first, None is the base model.
        last: of the last answer.
    """

    def __init__(
        self,
        model: Model,
        options: SamplingOptions,
        max_new_tokens: int | None = None,
        system: str = "",
        speculative: SpeculativeDecoder | None = None,
    ) -> None:
        self.model, self.options, self.max_new_tokens, self.system = model, options, max_new_tokens, system
        self.speculative = speculative
        self.messages: list[Message] = []
        self.adapter: str | None = next(iter(model.engine.adapters), None)
        self.last: AnswerStats | None = None

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
        text, progress = StoppedText(self.model.tokenizer), _Progress()
        tokens = self._speculative(prompt, progress) if self.speculative else self._plain(prompt, progress)
        began, first_token = time.perf_counter(), 0.0
        try:
            for token in tokens:
                first_token = first_token or time.perf_counter() - began
                progress.tokens += 1
                yield text.push(token)
            yield text.finish()
        finally:
            tokens.close()
            self.messages.append(Message("assistant", text.text))
            seconds = time.perf_counter() - began - first_token
            self.last = AnswerStats(
                len(prompt),
                progress.reused,
                progress.tokens,
                first_token,
                seconds,
                progress.reason,
                forgotten,
                progress.acceptance,
            )

    def _plain(self, prompt: list[int], progress: _Progress) -> Generator[int, None, None]:
        request = Request(tuple(prompt), self.options, self.max_new_tokens, adapter=self.adapter)
        events = self.model.follow([request])
        try:
            for _, event in events:
                progress.reused = event.sequence.reused
                progress.reason = event.finish_reason or progress.reason
                if event.choice is not None:
                    yield event.choice.token
        finally:
            events.close()

    def _speculative(self, prompt: list[int], progress: _Progress) -> Generator[int, None, None]:
        speculative = self.speculative
        assert speculative is not None
        before = speculative.accepted, speculative.proposed
        limit = min(self.max_new_tokens or speculative.max_length, speculative.max_length - len(prompt))
        for token in speculative.stream(prompt, self.max_new_tokens):
            progress.reused = speculative.reused
            yield token
        progress.reason = "length" if progress.tokens >= limit else "stop"
        proposed = speculative.proposed - before[1]
        progress.acceptance = (speculative.accepted - before[0]) / proposed if proposed else 0.0

    def _prompt(self) -> tuple[list[int], int]:
        """Token ids of the conversation, and how many of its oldest messages were left out to make it fit."""
        room = self.model.engine.max_length - SHORTEST_ANSWER
        system = [Message("system", self.system)] if self.system else []
        for forgotten in range(0, len(self.messages), 2):
            turns = [*system, *self.messages[forgotten:]]
            prompt = encode_conversation(turns, self.model.template, self.model.tokenizer)
            if len(prompt) <= room:
                return prompt, forgotten
        if room < 1:
            raise UserError(
                f"--max_length {self.model.engine.max_length} leaves no room for a question: {SHORTEST_ANSWER} tokens "
                "are kept free for the answer"
            )
        raise UserError(f"the question has {len(prompt)} tokens with its template; {room} fit (--max_length)")

    def choose_adapter(self, name: str | None) -> None:
        """Let another adapter answer from now on; None is the base model.

        Raises:
            UserError: there is none of that name.
        """
        known = self.model.engine.adapters
        if name is not None and name not in known:
            raise UserError(f"no adapter {name!r}; available: {', '.join(known) or 'none'}")
        self.adapter = name

    def reset(self) -> None:
        """Forget the conversation; the system message stays."""
        self.messages.clear()

    def save(self, file: str | Path) -> None:
        """Write the conversation as JSON."""
        content = {"system": self.system, "messages": [_saved(message) for message in self.messages]}
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
            content = read_json_object(file)
            messages = [Message(item["role"], str(item["content"])) for item in content["messages"]]
            system = str(content.get("system", ""))
        except (KeyError, TypeError):
            raise UserError("is not a saved conversation", file) from None
        if [message.role for message in messages] != ["user", "assistant"] * (len(messages) // 2):
            raise UserError("is not a saved conversation: user and assistant do not take turns", file)
        self.messages, self.system = messages, system


def _saved(message: Message) -> dict[str, Any]:
    return {name: value for name, value in asdict(message).items() if name != "tools"}
