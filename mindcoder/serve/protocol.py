"""Request bodies of OpenAI's API, as far as this server supports them; the rest is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, FailFast, Field, ValidationInfo, field_validator, model_validator

from mindcoder.generate.sampler import SamplingOptions
from mindcoder.serve.messages import ChatMessage
from mindcoder.serve.schema import Strict, expected, only

UNSUPPORTED = "not supported by this server"
Label = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[Label, Label], Field(max_length=16)]  # as in OpenAI's reference
FUNCTIONS = "deprecated: give them as tools"
CHOICE = "the model chooses by itself whether it calls"
MAX_TOOLS = 128  # as in OpenAI's API


class FunctionTool(Strict):
    """What a function is for, and its parameters as a JSON schema."""

    name: Annotated[str, Field(min_length=1, max_length=512)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A function that the model may call."""

    type: Literal["function"] = "function"
    function: FunctionTool

    def data(self) -> dict[str, Any]:
        """As chat templates read it: fields that are not given are left out, and ``strict`` is for the server."""
        given = self.function.model_dump(exclude_none=True, exclude={"strict"})
        return {"type": self.type, "function": given}


class KnownToBoth(Strict):
    """Fields common to completions and chats."""

    user: Label | None = None
    presence_penalty: Annotated[float | None, only(0, why=UNSUPPORTED)] = None
    frequency_penalty: Annotated[float | None, only(0, why=UNSUPPORTED)] = None
    logit_bias: Annotated[Any, only({}, why=UNSUPPORTED)] = None


class KnownToChat(Strict):
    """Fields of chats: OpenAI's accounts, storage and caches, then those that request a different answer."""

    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prediction: Any = None  # only speeds up OpenAI's answer
    parallel_tool_calls: bool | None = None

    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    functions: Annotated[Any, only([], why=FUNCTIONS)] = None
    tool_choice: Annotated[Any, only("none", "auto", why=CHOICE)] = None
    function_call: Annotated[Any, only("none", "auto", why=CHOICE)] = None
    response_format: Annotated[Any, only({"type": "text"}, why=UNSUPPORTED)] = None
    modalities: Annotated[Any, only(["text"], why="this server answers with text only")] = None
    audio: Annotated[Any, only(why="this server answers with text only")] = None
    reasoning_effort: Annotated[Any, only("none", why=UNSUPPORTED)] = None
    verbosity: Annotated[Any, only("medium", why=UNSUPPORTED)] = None
    moderation: Annotated[Any, only(why=UNSUPPORTED)] = None
    web_search_options: Annotated[Any, only(why=UNSUPPORTED)] = None


MAX_STOPS = 4  # as in OpenAI's API
LONGEST_STOP = 1024  # characters
MAX_TEXTS = 2048  # prompts per request, as in OpenAI's API; also messages per conversation
MAX_COUNT = 2**31 - 1
MAX_SEED = 2**63 - 1  # OpenAI's are 64-bit integers
LEAST = 1e-8  # for values that divide or add up: far below any use, far above the smallest normal float32 (1.2e-38)

Name = Annotated[str, Field(max_length=512)]
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]


def _zero_or_more_than_least(value: float) -> float:
    if 0 < value < LEAST:
        raise expected(f"0 or at least {LEAST:g}")
    return value


class StreamOptions(Strict):
    """``stream_options``.

    Attributes:
        include_usage: send a last chunk with the token counts.
        continuous_usage_stats: send the counts so far in every chunk, as in vLLM.
        include_obfuscation: no effect; chunks are not padded.
    """

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: Any = None


class Sampled(KnownToBoth):
    """Sampling fields of both kinds of request. null is the default."""

    model: Name | None = None
    temperature: Annotated[float, Field(ge=0, le=10), AfterValidator(_zero_or_more_than_least)] = 1.0
    top_p: float = Field(1.0, ge=LEAST, le=1)
    top_k: int = Field(0, ge=0, le=MAX_COUNT, description="not OpenAI's")
    repetition_penalty: float = Field(1.0, ge=0.01, le=100, description="not OpenAI's")
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    n: int = Field(1, ge=1, le=16)
    stop: Annotated[list[Stop], FailFast(), Field(max_length=MAX_STOPS)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None

    @field_validator("temperature", "top_p", "top_k", "repetition_penalty", "n", "stream", mode="before")
    @classmethod
    def null_is_the_default(cls, value: Any, info: ValidationInfo) -> Any:
        """As in OpenAI's API; its Python client sends None as null."""
        return cls.model_fields[str(info.field_name)].default if value is None else value

    @field_validator("stop", mode="before")
    @classmethod
    def in_a_list(cls, value: Any) -> Any:
        """Convert the short form to a list."""
        if value is not None and not isinstance(value, (str, list)):
            raise expected("a text or a list of texts")
        return [value] if isinstance(value, str) else [] if value is None else value

    @property
    def texts(self) -> int:
        """Number of prompts."""
        return 1

    @property
    def longest_answer(self) -> int | None:
        """Maximum number of tokens; None continues to the end of the context."""
        return None

    def options(self, seed: int) -> SamplingOptions:
        """Sampling options; temperature 0 is greedy."""
        return SamplingOptions(
            self.temperature > 0, self.temperature or 1.0, self.top_k, self.top_p, self.repetition_penalty, seed
        )


class CompletionRequest(Sampled):
    """``/v1/completions``."""

    prompt: str | list[int] | list[str]
    suffix: str | None = None
    max_tokens: int | None = Field(16, ge=1, le=MAX_COUNT)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: Annotated[Any, only(False, why=UNSUPPORTED)] = None
    best_of: Annotated[Any, only(1, why=UNSUPPORTED)] = None

    @field_validator("prompt", mode="plain")
    @classmethod
    def is_a_prompt(cls, value: Any) -> str | list[int] | list[str]:
        """Validated by hand: pydantic tries each member of a union, with an error for each of a million items."""
        if isinstance(value, str) or (isinstance(value, list) and all(type(item) is int for item in value)):
            return value
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            if len(value) > MAX_TEXTS:
                raise expected(f"at most {MAX_TEXTS} texts")
            return value
        raise expected("a text, a list of texts or a list of token ids")

    @model_validator(mode="after")
    def has_texts_around_a_gap(self) -> Self:
        """Token ids cannot be combined with a suffix."""
        if self.suffix is not None and isinstance(self.prompt, list) and self.prompt and type(self.prompt[0]) is int:
            raise expected("a text or a list of texts, because of the suffix", "prompt")
        return self

    @property
    def texts(self) -> int:
        given = self.prompt
        return len(given) if isinstance(given, list) and given and isinstance(given[0], str) else 1

    @property
    def longest_answer(self) -> int | None:
        return self.max_tokens


class ChatRequest(Sampled, KnownToChat):
    """``/v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], FailFast()] = Field(min_length=1, max_length=MAX_TEXTS)
    max_tokens: int | None = Field(None, ge=1, le=MAX_COUNT)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_COUNT)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @model_validator(mode="after")
    def has_no_contradiction(self) -> Self:
        """Refuse contradicting fields, of which one would win silently."""
        if self.top_logprobs and not self.logprobs:
            raise expected("true, because of top_logprobs", "logprobs")
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise expected(f"max_completion_tokens, which is {self.max_completion_tokens}, or null", "max_tokens")
        return self

    @property
    def longest_answer(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is shown."""
        return [] if self.tool_choice == "none" else [tool.data() for tool in self.tools or ()]


def usage(prompt_tokens: int, completion_tokens: int, cached: int) -> dict[str, Any]:
    """The ``usage`` object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
