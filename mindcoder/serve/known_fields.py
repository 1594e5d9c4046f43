"""OpenAI's fields that this server ignores, as listed in the package openai 3.57 (types/chat/
completion_create_params.py, types/completion_create_params.py).

Fields that cannot change an answer here are accepted. Fields that could are accepted only with values that request what
the server does anyway.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from mindcoder.serve.schema import Strict, only

UNSUPPORTED = "not supported by this server"
Label = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[Label, Label], Field(max_length=16)]  # as in OpenAI's reference
TOOLS = "not supported: write tools into the system message, docs/data.md says how; calls come as text"


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

    tools: Annotated[Any, only([], why=TOOLS)] = None
    functions: Annotated[Any, only([], why=TOOLS)] = None
    tool_choice: Annotated[Any, only("none", "auto", why=TOOLS)] = None
    function_call: Annotated[Any, only("none", "auto", why=TOOLS)] = None
    response_format: Annotated[Any, only({"type": "text"}, why=UNSUPPORTED)] = None
    modalities: Annotated[Any, only(["text"], why="this server answers with text only")] = None
    audio: Annotated[Any, only(why="this server answers with text only")] = None
    reasoning_effort: Annotated[Any, only("none", why=UNSUPPORTED)] = None
    verbosity: Annotated[Any, only("medium", why=UNSUPPORTED)] = None
    moderation: Annotated[Any, only(why=UNSUPPORTED)] = None
    web_search_options: Annotated[Any, only(why=UNSUPPORTED)] = None
