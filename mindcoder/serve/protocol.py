"""The bodies of OpenAI's interface, as far as this server understands them; what it does not is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, field_validator

from mindcoder.generate.sampler import SamplingOptions

MAX_STOPS = 4  # as in OpenAI's interface
LONGEST_STOP = 1024  # characters
MAX_TEXTS = 2048  # prompts of a request, as in OpenAI's interface; also turns of a conversation and parts of a turn
MAX_COUNT = 2**31 - 1
MAX_SEED = 2**63 - 1  # OpenAI's are 64-bit integers

Name = Annotated[str, Field(max_length=512)]


class StreamOptions(BaseModel):
    """``stream_options``.

    Attributes:
        include_usage: a last chunk with the counts of tokens.
        continuous_usage_stats: the counts so far in every chunk, as in vLLM.
    """

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Sampled(BaseModel):
    """What both kinds of request have."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Name | None = None
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=MAX_COUNT, description="not OpenAI's")
    repetition_penalty: float = Field(1.0, ge=0.01, le=100, description="not OpenAI's")
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    n: int = Field(1, ge=1, le=16)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Name | None = None
    presence_penalty: float | None = Field(None, ge=0, le=0, description="only 0: not implemented")
    frequency_penalty: float | None = Field(None, ge=0, le=0, description="only 0: not implemented")

    def stops(self) -> list[str]:
        """Stop strings."""
        listed = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(listed) > MAX_STOPS:
            raise ValueError(f"stop: at most {MAX_STOPS} strings, found {len(listed)}")
        if any(len(stop) > LONGEST_STOP for stop in listed):
            raise ValueError(f"stop: a string has more than {LONGEST_STOP} characters")
        return listed

    @property
    def texts(self) -> int:
        """How many prompts there are."""
        return 1

    @property
    def longest_answer(self) -> int | None:
        """Tokens; None goes on to the end of the context."""
        return None

    def options(self, seed: int) -> SamplingOptions:
        """Temperature 0 is greedy."""
        return SamplingOptions(
            self.temperature > 0, self.temperature or 1.0, self.top_k, self.top_p, self.repetition_penalty, seed
        )


class CompletionRequest(Sampled):
    """``/v1/completions``."""

    prompt: str | list[int] | list[str]
    suffix: str | None = None
    max_tokens: int | None = Field(16, ge=1, le=MAX_COUNT)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: Literal[False] = False
    best_of: Literal[1] | None = None

    @field_validator("prompt", mode="plain")
    @classmethod
    def is_a_prompt(cls, value: Any) -> str | list[int] | list[str]:
        """By hand: a union is tried kind by kind, with an error for each of a million items."""
        if isinstance(value, str) or (isinstance(value, list) and all(type(item) is int for item in value)):
            return value
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            if len(value) > MAX_TEXTS:
                raise ValueError(f"{len(value)} texts, the most in a request are {MAX_TEXTS}")
            return value
        raise ValueError("expected a text, a list of texts or a list of token ids")

    @property
    def texts(self) -> int:
        given = self.prompt
        return len(given) if isinstance(given, list) and given and isinstance(given[0], str) else 1

    @property
    def longest_answer(self) -> int | None:
        return self.max_tokens


class TextPart(BaseModel):
    """A piece of a message in the long form."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A turn."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]

    @field_validator("content", mode="before")
    @classmethod
    def has_few_parts(cls, value: Any) -> Any:
        """Counted before they are looked at."""
        if isinstance(value, list) and len(value) > MAX_TEXTS:
            raise ValueError(f"{len(value)} parts, the most in a message are {MAX_TEXTS}")
        return value

    @property
    def text(self) -> str:
        """The content in one piece."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Sampled):
    """``/v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], FailFast()] = Field(min_length=1, max_length=MAX_TEXTS)
    max_tokens: int | None = Field(None, ge=1, le=MAX_COUNT)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_COUNT)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def longest_answer(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


def usage(prompt_tokens: int, completion_tokens: int, cached: int) -> dict[str, Any]:
    """The ``usage`` object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def error_body(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
