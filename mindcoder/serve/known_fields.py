"""OpenAI's fields that this server has no use for, as the package openai 3.57 lists them (types/chat/
completion_create_params.py, types/completion_create_params.py).

What cannot change an answer here is accepted. What could is accepted only with the values that ask for what the server
does anyway.
"""

from __future__ import annotations

from typing import Annotated, Any

from mindcoder.serve.schema import Strict, only

UNSUPPORTED = "not supported by this server"
TOOLS = "not supported: write tools into the system message, docs/data.md says how; calls come as text"


class KnownToBoth(Strict):
    """Fields of completions and chats."""

    user: Any = None
    presence_penalty: Annotated[float | None, only(0, why=UNSUPPORTED)] = None
    frequency_penalty: Annotated[float | None, only(0, why=UNSUPPORTED)] = None
    logit_bias: Annotated[Any, only({}, why=UNSUPPORTED)] = None


class KnownToChat(Strict):
    """Fields of chats: accounts, storage and caches of OpenAI's, then what asks for another answer."""

    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    prediction: Any = None  # makes OpenAI's answer come sooner
    parallel_tool_calls: Any = None

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
