"""Conversations as the token ids a model was trained to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mindcoder.data.prompt import TEMPLATES
from mindcoder.tokenizer import CodeTokenizer

Role = Literal["system", "user", "assistant"]
LLAMA_SYSTEM = "<<SYS>>\n{system}\n<</SYS>>\n\n"  # github.com/meta-llama/llama, chat_completion


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str


def check_turns(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Messages of a conversation to be learnt: questions and answers in turn, ending with an answer.

    Raises:
        ValueError: they are not.
    """
    turns = [message for message in messages if message.role != "system"]
    for index, message in enumerate(turns):
        wanted = "user" if index % 2 == 0 else "assistant"
        if message.role != wanted:
            raise ValueError(f"message {index} is the {message.role}'s where the {wanted}'s is expected")
    if not turns or turns[-1].role != "assistant":
        raise ValueError("there is no answer at the end")
    return tuple(messages)


def encode_turns(
    messages: Sequence[Message], template: str, tokenizer: CodeTokenizer
) -> Iterator[tuple[list[int], bool]]:
    """Token ids turn by turn, and whether they are an answer.

    Every question is filled into the template; an answer ends with the end-of-text token, as in training (FastChat does
    the same for these templates). The Llama template begins every turn anew and has a place for the system message;
    in the others it precedes the first turn, in place of the template's own introduction.

    Raises:
        ValueError: an answer has no question.
    """
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    for index, message in enumerate(message for message in messages if message.role != "system"):
        wanted = "user" if index % 2 == 0 else "assistant"
        if message.role != wanted:
            raise ValueError(f"message {index} is the {message.role}'s where the {wanted}'s is expected")
        if message.role == "assistant":
            yield [*_continue(_before_answer(template) + message.content, tokenizer), tokenizer.eos_id], True
        else:
            text = _question(message.content, template, system if index == 0 else "", index == 0)
            starts = index == 0 or (template == "llama2-chat" and tokenizer.bos_id is not None)
            yield tokenizer.encode(text) if starts else _continue(text, tokenizer), False


def encode_conversation(messages: Sequence[Message], template: str, tokenizer: CodeTokenizer) -> list[int]:
    """Token ids up to where the next answer begins, see `encode_turns`.

    Raises:
        ValueError: the last message is not a question, or an answer has no question.
    """
    turns = [message for message in messages if message.role != "system"]
    if not turns or turns[-1].role != "user":
        raise ValueError("the last message has to be the user's")
    return [token for ids, _ in encode_turns(messages, template, tokenizer) for token in ids]


def _before_answer(template: str) -> str:
    return TEMPLATES[template].before_answer


def _question(content: str, template: str, system: str, is_first: bool) -> str:
    if template == "llama2-chat":
        return TEMPLATES[template].fill((LLAMA_SYSTEM.replace("{system}", system) if system else "") + content)
    text = TEMPLATES[template].fill(content)
    mark = text.find("### Instruction")
    if mark < 0:  # plain
        return (f"{system}\n\n" if system else "") + text
    if not is_first:
        return "\n\n" + text[mark:]
    return (f"{system}\n\n" if system else text[:mark]) + text[mark:]


def _continue(text: str, tokenizer: CodeTokenizer) -> list[int]:
    """Ids of text in the middle of a conversation."""
    ids = tokenizer.encode(text)
    return ids if tokenizer.bos_id is None else ids[1:]
