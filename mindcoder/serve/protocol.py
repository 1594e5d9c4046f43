"""The bodies of OpenAI's interface, as far as this server understands them; what it does not is refused."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mindcoder.generate.sampler import SamplingOptions

MAX_STOPS = 4  # as in OpenAI's interface


class StreamOptions(BaseModel):
    """``stream_options``."""

    include_usage: bool = False


class Sampled(BaseModel):
    """What both kinds of request have."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="not OpenAI's")
    repetition_penalty: float = Field(1.0, gt=0, description="not OpenAI's")
    seed: int | None = Field(None, ge=0)
    n: int = Field(1, ge=1, le=16)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    presence_penalty: float | None = Field(None, ge=0, le=0, description="only 0: not implemented")
    frequency_penalty: float | None = Field(None, ge=0, le=0, description="only 0: not implemented")

    def stops(self) -> list[str]:
        """Stop strings."""
        listed = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(listed) > MAX_STOPS:
            raise ValueError(f"stop: at most {MAX_STOPS} strings, found {len(listed)}")
        return listed

    def options(self, seed: int) -> SamplingOptions:
        """Temperature 0 is greedy."""
        return SamplingOptions(
            self.temperature > 0, self.temperature or 1.0, self.top_k, self.top_p, self.repetition_penalty, seed
        )


class CompletionRequest(Sampled):
    """``/v1/completions``."""

    prompt: str | list[int] | list[str]
    suffix: str | None = None
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: Literal[False] = False
    best_of: Literal[1] | None = None


class TextPart(BaseModel):
    """A piece of a message in the long form."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A turn."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content in one piece."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Sampled):
    """``/v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)


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
