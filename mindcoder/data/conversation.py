"""Conversations as the token ids that a model was trained to continue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mindcoder.data.own_template import own_prompt
from mindcoder.data.prompt import OWN, TEMPLATES
from mindcoder.tokenizer import CodeTokenizer

Role = Literal["system", "user", "assistant", "tool"]
TOOL_RESULT = "<tool_response>\n{content}\n</tool_response>"  # Hermes, Qwen 2.5


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``tool`` is the result of a call by the assistant; it takes the place of a question.
        content: the text; for a call by the assistant see `mindcoder.data.readers.tools.call_text`.
        context: additional input of a question, which some templates show separately (Alpaca's ``### Input``).
        learned: whether an answer contributes to the loss in training.
        tools: what the end of a system message describes, as data, for chat templates with a place for tools.
    """

    role: Role
    content: str
    context: str = ""
    learned: bool = True
    tools: tuple[Any, ...] = field(default=(), compare=False, repr=False)


def check_turns(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Validate a conversation for training: alternating questions and answers, ending with an answer.

    Raises:
        ValueError: it does not have this form.
    """
    turns = [message for message in messages if message.role != "system"]
    for index, message in enumerate(turns):
        _check_position(index, message)
    if not turns or turns[-1].role != "assistant":
        raise ValueError("there is no answer at the end")
    if any(message.role == "system" for message in messages[len(messages) - len(turns) :]):
        raise ValueError("a system message stands between the turns; it is read at the beginning only")
    return tuple(messages)


def _check_position(index: int, message: Message) -> None:
    """Refuse a question where an answer is due, an answer where a question is due, and results without a preceding
    call.
    """
    wanted = "assistant" if index % 2 else "user"
    found = "user" if message.role == "tool" and index else message.role
    if found != wanted:
        raise ValueError(f"message {index} is the {message.role}'s where the {wanted}'s is expected")


def encode_turns(
    messages: Sequence[Message], template: str, tokenizer: CodeTokenizer
) -> Iterator[tuple[list[int], bool]]:
    """Token ids turn by turn in a named template, and whether they are learned.

    Questions and tool results are inserted into the template; an answer ends with the end-of-text token, as in
    training (FastChat does the same for these templates). `PromptTemplate.system` defines where the system
    message goes.

    Raises:
        ValueError: an answer has no question.
    """
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    known = TEMPLATES[template]
    for index, message in enumerate(message for message in messages if message.role != "system"):
        _check_position(index, message)
        if message.role == "assistant":
            ids = _continue(known.before_answer + message.content + known.after_answer, tokenizer)
            yield [*ids, tokenizer.eos_id], message.learned
            continue
        is_result = message.role == "tool"
        content = TOOL_RESULT.replace("{content}", message.content) if is_result else message.content
        text = known.question(content, message.context, system if index == 0 else "", index == 0)
        starts = index == 0 or (known.turns_begin_anew and tokenizer.bos_id is not None)
        yield tokenizer.encode(text) if starts else _continue(text, tokenizer), False


def encode_conversation(messages: Sequence[Message], template: str, tokenizer: CodeTokenizer) -> list[int]:
    """Token ids up to the beginning of the next answer: by the model's own chat template, or see `encode_turns`.

    Raises:
        ValueError: the last message is not a question, or an answer has no question.
        UserError: the model's own chat template is missing, or refuses the conversation.
    """
    turns = [message for message in messages if message.role != "system"]
    if not turns or turns[-1].role not in ("user", "tool"):
        raise ValueError("the last message has to be the user's")
    if template == OWN:
        return tokenizer.encode_rendered(own_prompt(messages, tokenizer))
    return [token for ids, _ in encode_turns(messages, template, tokenizer) for token in ids]


def _continue(text: str, tokenizer: CodeTokenizer) -> list[int]:
    """Token ids of text in the middle of a conversation."""
    ids = tokenizer.encode(text)
    return ids if tokenizer.bos_id is None else ids[1:]
