"""A model that is ready to answer: text, conversations, logits."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack, overload

import numpy as np

from mindcoder.data.conversation import Message, encode_conversation
from mindcoder.data.readers.fields import Fields
from mindcoder.data.readers.tools import with_tools
from mindcoder.data.readers.turns import read_turns
from mindcoder.errors import UserError, shown, single_line
from mindcoder.generate.answer_options import AnswerOptions, Options
from mindcoder.generate.engine import Engine
from mindcoder.generate.exported_decoder import ExportedDecoder
from mindcoder.generate.request import Event, FinishReason, Request
from mindcoder.generate.scoring import Scorer
from mindcoder.generate.shared_engine import SharedEngine
from mindcoder.generate.text import StoppedText
from mindcoder.graph_lock import GRAPH_LOCK
from mindcoder.models.decoder import Decoder
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.infill import Repository

Prompt = str | Sequence[int]  # a text, or its token ids


@dataclass(frozen=True)
class Answer:
    """What a model said; ``str(answer)`` is its text.

    Attributes:
        text: without special tokens, up to a stop text.
        tokens: generated ids, the one that ended them left out.
        prompt_tokens: length of the prompt.
        finish_reason: ``stop`` at the end of the text or at a stop text, ``length`` at a limit.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason

    def __str__(self) -> str:
        return self.text


class Model:
    """A network with its weights, tokenizer and template. Threads may use it at the same time.

    Args:
        name: of its folder.
        decoder: the network with its weights, or an exported one.
        engine: computes the answers; its requests share a batch.
        tokenizer: of the model.
        template: of `mindcoder.data.prompt.TEMPLATE_NAMES`, which `chat` fills in.
    """

    def __init__(
        self, name: str, decoder: Decoder | ExportedDecoder, engine: Engine, tokenizer: CodeTokenizer, template: str
    ) -> None:
        self.name, self.decoder, self.engine = name, decoder, engine
        self.tokenizer, self.template = tokenizer, template
        self._shared = SharedEngine(engine)
        self._scorer: Scorer | None = None

    def __repr__(self) -> str:
        config = self.decoder.config
        size = f"{config.num_parameters() / 1e6:.3g} M parameters"
        return f"Model({self.name!r}, {config.model_type}, {size}, template {self.template!r})"

    @property
    def choices(self) -> dict[str, str | None]:
        """What a request may name as its model -> the adapter that this is; None is the base model."""
        return {self.name: None, **{name: name for name in self.adapters}}

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that ``adapter=`` takes."""
        return self.engine.adapters

    @property
    def max_length(self) -> int:
        """Prompt and answer together, in tokens."""
        return self.engine.max_length

    @overload
    def generate(
        self,
        prompt: str,
        *,
        suffix: str | None = None,
        repository: Repository | None = None,
        stream: Literal[False] = False,
        **options: Unpack[Options],
    ) -> Answer: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        suffix: str | None = None,
        repository: Repository | None = None,
        stream: Literal[True],
        **options: Unpack[Options],
    ) -> Generator[str, None, None]: ...

    @overload
    def generate(
        self,
        prompt: Sequence[Prompt] | Sequence[int],
        *,
        suffix: None = None,
        repository: None = None,
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Any: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        *,
        suffix: str | None = None,
        repository: Repository | None = None,
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Continue a text, or several together. The text is taken as it is; `chat` fills in the template.

        Args:
            prompt: a text, a list of texts, or token ids in place of a text.
            suffix: what follows the gap after ``prompt``; the answer fills it. Needs a tokenizer with
                fill-in-the-middle tokens.
            repository: related files, which come before ``prompt``, and the file's own path; with ``suffix``.
            stream: give the text as it comes.
            options: see `AnswerOptions`.

        Returns:
            An `Answer`, or a list of them for a list. With ``stream``: an iterator of pieces of text; for a list, of
            pairs (index of the prompt, piece). Closing the iterator ends the answers and frees their cache.

        Raises:
            UserError: a prompt is empty or too long, or an option is out of bounds; also with ``stream`` before
                anything is computed.
        """
        answer_options = AnswerOptions(**options)
        _check_bool("stream", stream)
        single = isinstance(prompt, str) or _is_ids(prompt)
        if not single and (not isinstance(prompt, Sequence) or isinstance(prompt, bytes)):
            raise UserError(f"prompt: expected a text or a list, found {shown(prompt)}")
        prompts = [prompt] if single else prompt
        if suffix is not None:
            if not isinstance(prompt, str) or not isinstance(suffix, str):
                raise UserError("suffix: expected two texts, the prompt and what follows the gap")
            for name, text in (("prompt", prompt), ("suffix", suffix)):
                _check_text(name, text)
            encoded = [self.tokenizer.encode_infill(prompt, suffix, repository or Repository())]
        elif repository is not None:
            raise UserError('repository: it belongs to a gap, give suffix too ("" if nothing follows)')
        else:
            encoded = [self._encode(item, index) for index, item in enumerate(prompts)]
        return self._answer(encoded, answer_options, single, stream)

    @overload
    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        stream: Literal[False] = False,
        **options: Unpack[Options],
    ) -> Answer: ...

    @overload
    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        stream: Literal[True],
        **options: Unpack[Options],
    ) -> Generator[str, None, None]: ...

    def chat(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Answer the last message of a conversation, in the model's template.

        Args:
            messages: OpenAI's form, ``[{"role": "user", "content": "…"}]``, with the roles system, user, assistant
                and tool; a text is a single question.
            tools: functions that the model may call, in OpenAI's form; its calls come as text.
            stream: give the text as it comes.
            options: see `AnswerOptions`.

        Returns:
            An `Answer`; with ``stream`` an iterator of pieces of text.

        Raises:
            UserError: the messages are not a conversation that ends with a question, they are too long, or an option is
                out of bounds.
        """
        answer_options = AnswerOptions(**options)
        _check_bool("stream", stream)
        turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        return self._answer([self.encode_chat(turns, tools)], answer_options, True, stream)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Token ids of a conversation in the model's template, up to the beginning of the next answer.

        Args:
            tools: see `chat`.

        Raises:
            UserError: the messages are not a conversation that ends with a question.
        """
        fields = Fields({})
        try:
            if not isinstance(messages, Sequence) or isinstance(messages, bytes):
                raise ValueError(f"expected a list, found {type(messages).__name__}")
            turns: list[Message] = read_turns(
                [dict(item) if isinstance(item, Mapping) else item for item in messages], fields
            )
            if fields.unread():
                raise ValueError(f"unknown field {', '.join(fields.unread())}")
            if not isinstance(tools, Sequence) or not all(isinstance(tool, Mapping) for tool in tools):
                raise ValueError("tools: expected a list of objects")
            turns = with_tools(turns, [dict(tool) for tool in tools])
            for turn in turns:
                _check_text(f"messages: {turn.role}", turn.content + turn.context)
            return encode_conversation(turns, self.template, self.tokenizer)
        except ValueError as error:
            raise UserError(f"messages: {single_line(str(error), 300)}") from None

    def logits(self, ids: Sequence[int] | np.ndarray, *, adapter: str | None = None) -> np.ndarray:
        """What the network says of every token that may follow: not normalized, before temperature and penalties.

        The first call compiles a graph and takes the memory of one more cache.

        Args:
            ids: ``S`` token ids, or ``[B, S]`` of them.
            adapter: as in `AnswerOptions`.

        Returns:
            Float32 ``[S, V]`` or ``[B, S, V]``: row ``s`` is about the token after ``ids[s]``. ``V`` is the size of
            the model's vocabulary.

        Raises:
            UserError: no ids, ids outside the vocabulary, or more than ``max_length``.
        """
        try:
            array = np.asarray(ids)
        except ValueError:  # rows of different lengths
            array = np.empty(0)
        if array.ndim not in (1, 2) or not array.size or not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"ids: expected token ids [S] or [B, S], found {shown(ids)}")
        if adapter is not None and adapter not in self.adapters:
            raise UserError(f"no adapter {adapter!r}; available: {', '.join(self.adapters) or 'none'}")
        adapters, engine = self.engine.loaded_adapters, self.engine
        rows = np.atleast_2d(array).tolist()
        self._check_ids(array.ravel().tolist(), "ids")
        if len(rows[0]) > self.max_length:
            raise UserError(f"ids: {len(rows[0])} are more than max_length {self.max_length}")
        with GRAPH_LOCK:
            if self._scorer is None:
                length, size = engine.max_length, engine.pool.block_size
                self._scorer = Scorer(self.decoder, length, size, engine.chunk, adapters)
            number = 0 if adapters is None else adapters.number(adapter)
            found = np.stack([self._scorer.logits(row, number) for row in rows])
        return found if array.ndim == 2 else found[0]

    def follow(self, requests: Sequence[Request]) -> Generator[tuple[int, Event], None, None]:
        """Events of requests, see `SharedEngine.follow`."""
        return self._shared.follow(requests)

    def _encode(self, prompt: object, index: int) -> list[int]:
        """Token ids of a prompt, checked.

        Raises:
            UserError: it is empty, too long, or not a prompt.
        """
        if isinstance(prompt, str):
            _check_text(f"prompt {index}", prompt)
            ids = self.tokenizer.encode(prompt)
        elif _is_ids(prompt):
            ids = [int(item) for item in prompt]  # type: ignore[attr-defined]
            self._check_ids(ids, f"prompt {index}")
        else:
            raise UserError(f"prompt {index}: expected a text or a list of token ids, found {shown(prompt)}")
        if not ids:
            raise UserError(f"prompt {index} is empty")
        return ids

    def _check_ids(self, ids: Sequence[int], what: str) -> None:
        largest = self.decoder.config.vocab_size - 1
        wrong = next((item for item in ids if not 0 <= item <= largest), None)
        if wrong is not None:
            raise UserError(f"{what}: expected token ids from 0 to {largest}, found {wrong}")

    def _answer(self, encoded: list[list[int]], options: AnswerOptions, single: bool, stream: bool) -> Any:
        requests = [
            Request(tuple(ids), options.sampling, options.max_new_tokens, row=row, adapter=options.adapter)
            for row, ids in enumerate(encoded)
        ]
        for request in requests:
            if len(request.prompt) >= self.max_length:
                raise UserError(
                    f"prompt {request.row} has {len(request.prompt)} tokens, which leaves no room for an answer within "
                    f"max_length {self.max_length}"
                )
            self.engine.check(request)
        pieces = _Pieces(self._shared, self.tokenizer, requests, options.stops)
        if stream:
            return pieces.single() if single else pieces.of_all()
        for _ in pieces.of_all():
            pass
        return pieces.answers()[0] if single else pieces.answers()


class _Pieces:
    """Text of several answers while it comes."""

    def __init__(
        self, shared: SharedEngine, tokenizer: CodeTokenizer, requests: Sequence[Request], stops: Sequence[str]
    ) -> None:
        self._shared, self._requests = shared, requests
        self._texts = [StoppedText(tokenizer, stops) for _ in requests]
        self._tokens: list[list[int]] = [[] for _ in requests]
        self._reasons: list[FinishReason] = ["cancelled"] * len(requests)

    def single(self) -> Generator[str, None, None]:
        """Pieces of the only answer."""
        pieces = self.of_all()
        try:
            for _, piece in pieces:
                yield piece
        finally:
            pieces.close()

    def of_all(self) -> Generator[tuple[int, str], None, None]:
        """Pieces of all answers, each with the index of its prompt."""
        events = self._shared.follow(self._requests)
        done: set[int] = set()
        try:
            for index, event in events:
                if index in done:
                    continue
                text = self._texts[index]
                piece = ""
                if event.choice is not None:
                    self._tokens[index].append(event.choice.token)
                    piece = text.push(event.choice.token)
                if text.stopped or event.finish_reason is not None:
                    self._reasons[index] = "stop" if text.stopped else event.finish_reason or "stop"
                    self._shared.cancel(event.sequence)
                    piece += text.finish()
                    done.add(index)
                if piece:
                    yield index, piece
        finally:
            events.close()

    def answers(self) -> list[Answer]:
        """The answers, once `of_all` is at its end."""
        return [
            Answer(text.text, tuple(tokens), len(request.prompt), reason)
            for text, tokens, request, reason in zip(self._texts, self._tokens, self._requests, self._reasons)
        ]


def _is_ids(prompt: object) -> bool:
    """Whether this is a list of token ids rather than of prompts."""
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 1 and np.issubdtype(prompt.dtype, np.integer)
    if not isinstance(prompt, Sequence) or isinstance(prompt, str | bytes) or not len(prompt):
        return False
    return all(isinstance(item, int | np.integer) and not isinstance(item, bool) for item in prompt)


def _check_text(name: str, text: str) -> None:
    """Refuse a surrogate, of which no text is made: a tokenizer takes UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{name}: expected a text, found a surrogate ({text[error.start]!a}) in it") from None


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UserError(f"{name}: expected True or False, found {shown(value)}")
