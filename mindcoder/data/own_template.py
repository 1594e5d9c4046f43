"""Conversations in a model's own chat template: what is asked, what is trained, and which tokens are learned.

Both come from one rendering, that of transformers' ``apply_chat_template``. What the assistant says is what
``{% generation %}`` encloses, where a template has it. Otherwise it is found by spans: the conversation up to an
answer, rendered as it is asked, must be the beginning of the whole; so must the conversation up to the answer's end.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mindcoder.data.tool_calls import split_calls
from mindcoder.errors import UserError, single_line
from mindcoder.families.templates import OWN
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.chat_template import ChatTemplate
from mindcoder.tokenizer.render_process import CannotRender

if TYPE_CHECKING:
    from mindcoder.data.conversation import Message

SHOWN = 40  # characters of a text in a message
ASKED = ({"role": "user", "content": "a"},)
ANSWER = "mindcoder"  # of a probe
log = logging.getLogger(__name__)


def template_of(tokenizer: CodeTokenizer) -> ChatTemplate:
    """The template that lies with the tokenizer.

    Raises:
        UserError: there is none, or it is damaged.
    """
    own = tokenizer.chat_template
    if own is None:
        raise UserError(
            f"template {OWN}: no chat_template lies with the tokenizer (tokenizer_config.json, chat_template.jinja); "
            "--template names one of ours"
        )
    if own.problem:
        raise UserError(f"template {OWN}: {own.problem}; --template names one of ours")
    return own


def own_or(tokenizer: CodeTokenizer | None, otherwise: str) -> str:
    """The template where none is asked for or recorded: the model's own, or ``otherwise`` if it has none.

    One that is damaged, or refuses a single question, is not taken; the log says so.
    """
    if tokenizer is None or tokenizer.chat_template is None:
        return otherwise
    try:
        own = template_of(tokenizer)
        if not own.render([_job(ASKED)])[0].text.strip():
            raise UserError(f"the model's chat_template ({own.source}): it makes an empty text of a question")
    except UserError as error:
        log.warning("template %s is used: %s", otherwise, error)
        return otherwise
    return OWN


def end_ids(tokenizer: CodeTokenizer) -> frozenset[int]:
    """The token that ends an answer in the model's own template, such as ``<|im_end|>``; none if it is not a token.

    Raises:
        UserError: the template is damaged or refuses a conversation.
    """
    answered = [*ASKED, {"role": "assistant", "content": ANSWER}]
    text = template_of(tokenizer).render([_job(answered, False)])[0].text
    tail = text[text.rfind(ANSWER) + len(ANSWER) :].lstrip()
    token = next((token for token in sorted(tokenizer.added_texts, key=len)[::-1] if tail.startswith(token)), None)
    index = None if token is None or ANSWER not in text else tokenizer.backend.token_to_id(token)
    return frozenset() if index is None else frozenset({index})


def own_prompt(messages: Sequence[Message], tokenizer: CodeTokenizer) -> str:
    """The text up to the beginning of the next answer.

    Raises:
        UserError: there is no template, or it refuses the conversation.
    """
    own = template_of(tokenizer)
    turns, tools = jinja_messages(messages, own)
    return own.render([_job(turns, True, tools)])[0].text


def own_labels(messages: Sequence[Message], tokenizer: CodeTokenizer) -> tuple[list[int], list[bool]]:
    """Token ids of a whole conversation, and which of them are learned.

    A token that spans the beginning of an answer belongs to it, as in `mindcoder.data.encode.encode_record`.

    Raises:
        UserError: there is no template, it refuses the conversation, or it cannot be told what the answers are.
    """
    own = template_of(tokenizer)
    turns, tools = jinja_messages(messages, own)
    learned = [message.learned for message in messages if message.role == "assistant"]
    if own.marks_answers:
        whole = own.render([_job(turns, False, tools)], marks=True)[0]
        text, spans = whole.text, list(whole.spans)
        if len(spans) == len(learned):
            spans = [span for span, counts in zip(spans, learned) if counts]
        elif not all(learned):
            raise CannotRender(
                f"{_whose(own)} marks {len(spans)} spans with {{% generation %}} where there are {len(learned)} "
                "answers: it cannot be told which of them has weight 0"
            )
    else:
        text, spans = _spans(own, turns, tools, tokenizer, learned)
    ids, offsets = tokenizer.offsets(text)
    return ids, _inside(offsets, spans)


def jinja_messages(messages: Sequence[Message], own: ChatTemplate) -> tuple[list[dict[str, Any]], list[Any] | None]:
    """Messages as chat templates read them, and the tools.

    Calls are passed as ``tool_calls`` to templates that read these, and stay text for the others; tools likewise.
    """
    from mindcoder.data.readers.tools import SEPARATOR, tools_text

    turns: list[dict[str, Any]] = []
    calls, number, tools = own.takes("tool_calls"), 0, None
    waiting: list[dict[str, Any]] = []  # calls without a result
    for message in messages:
        content = message.content
        if message.role == "system":
            if message.tools and own.takes("tools"):
                tools = [*(tools or []), *message.tools]
                content = content.removesuffix(tools_text(list(message.tools))).rstrip("\n")
            if not content:
                continue
            if turns and turns[-1]["role"] == "system":
                turns[-1]["content"] += f"\n\n{content}"
                continue
        if message.role == "tool":
            for result in content.split(SEPARATOR):
                call = waiting.pop(0) if waiting else None
                named = {} if call is None else {"name": call["function"]["name"], "tool_call_id": call["id"]}
                turns.append({"role": "tool", "content": result, **named})
            continue
        if message.context:
            content = f"{content}\n\n{message.context}"
        turn: dict[str, Any] = {"role": message.role, "content": content}
        if message.role == "assistant" and calls:
            words, found = split_calls(content)
            if found:
                waiting = []
                for item in found:
                    number += 1  # nine characters, as Mistral's templates want them
                    function = {"name": item.name, "arguments": item.arguments}
                    waiting.append({"id": f"{number:09d}", "type": "function", "function": function})
                turn = {**turn, "content": words, "tool_calls": list(waiting)}
        turns.append(turn)
    return turns, tools


def _job(turns: Sequence[Any], asks: bool = True, tools: list[Any] | None = None) -> dict[str, Any]:
    return {"messages": list(turns), "tools": tools, "add_generation_prompt": asks}


def _spans(
    own: ChatTemplate, turns: list[dict[str, Any]], tools: list[Any] | None, tokenizer: CodeTokenizer,
    learned: Sequence[bool],
) -> tuple[str, list[tuple[int, int]]]:  # fmt: skip
    """The whole text and the answers that are learned, as (begin, end) in characters."""
    places = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
    jobs = [_job(turns, False, tools)]
    for index in places:
        jobs += [_job(turns[:index], True, tools), _job(turns[: index + 1], False, tools)]
    text, *parts = [item.text for item in own.render(jobs)]
    spans = []
    for number, (before, until) in enumerate(zip(parts[::2], parts[1::2])):
        for what, beginning in (("what is asked before", before), ("the conversation up to", until)):
            if not text.startswith(beginning):
                raise CannotRender(f"{_whose(own)} is not prefix-stable: {_differs(text, beginning, what, number)}")
        answer = text[len(before) : len(until)]
        stripped = answer.rstrip()
        if stripped.endswith(tokenizer.added_texts):  # the model stops there: a line end behind it is never its own
            answer = stripped
        if learned[number]:
            spans.append((len(before), len(before) + len(answer)))
    return text, spans


def _differs(text: str, beginning: str, what: str, number: int) -> str:
    at = next((at for at, (one, other) in enumerate(zip(text, beginning)) if one != other), len(text))
    found, expected = (single_line(repr(part[at : at + SHOWN])) for part in (text, beginning))
    return (
        f"{what} answer {number} ends with {expected} where the whole conversation has {found}; it needs "
        "{% generation %} around the answers, or --template names one of ours"
    )


def _whose(own: ChatTemplate) -> str:
    return f"the model's chat_template ({own.source})"


def _inside(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens have a character in one of the spans."""
    found, left = [], list(spans)
    for begin, end in offsets:
        while left and left[0][1] <= begin:
            left.pop(0)
        found.append(bool(left) and end > left[0][0] and end > begin)
    return found
