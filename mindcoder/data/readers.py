"""Records from JSON and JSONL files: instructions, conversations, plain code; and code files as they are."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mindcoder.data.conversation import Message, check_turns
from mindcoder.errors import UserError

BY_CONTENT = (".json", ".jsonl", ".txt", "")  # suffixes of files that hold records
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Source:
    """Where a record stands: ``file``, 0-based ``index`` and, in JSONL, 1-based ``line``."""

    file: str
    index: int
    line: int | None


@dataclass(frozen=True)
class Record(Source):
    """One instruction pair."""

    instruction: str
    input: str
    output: str

    def texts(self) -> tuple[str, ...]:
        """Its parts."""
        return (self.instruction, self.input, self.output)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"instruction": self.instruction, "input": self.input, "output": self.output}


@dataclass(frozen=True)
class Conversation(Source):
    """Several turns: OpenAI's ``messages`` or ShareGPT's ``conversations``."""

    messages: tuple[Message, ...] = field(default=())

    def texts(self) -> tuple[str, ...]:
        """Its parts."""
        return tuple(message.content for message in self.messages)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"messages": [{"role": item.role, "content": item.content} for item in self.messages]}


@dataclass(frozen=True)
class Document(Source):
    """Code or prose to go on with, all of it to be learnt: ``text`` or ``content``, or a file that is no JSON."""

    content: str

    def texts(self) -> tuple[str, ...]:
        """All of it."""
        return (self.content,)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"text": self.content}


@dataclass(frozen=True)
class Pair(Source):
    """Two answers to a prompt, of which one is preferred."""

    instruction: str
    input: str
    chosen: str
    rejected: str

    def texts(self) -> tuple[str, ...]:
        """Its parts."""
        return (self.instruction, self.input, self.chosen, self.rejected)

    def fields(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: getattr(self, name) for name in ("instruction", "input", "chosen", "rejected")}

    def records(self) -> tuple[Record, Record]:
        """Both answers as instruction pairs."""
        place = (self.file, self.index, self.line, self.instruction, self.input)
        return Record(*place, self.chosen), Record(*place, self.rejected)


AnyRecord = Record | Conversation | Document | Pair


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used, why, and its text.

    ``broken`` ones stop a run that was not told to skip them. The others are well formed but teach nothing (an empty
    answer, a prompt that leaves no room for one); they are counted and listed.
    """

    file: str
    index: int
    line: int | None
    reason: str
    text: str
    broken: bool = True

    def error(self) -> UserError:
        """The one-line message for it."""
        return UserError(f"record {self.index}: {self.reason}", self.file, self.line)


def expand_glob(pattern: str) -> list[Path]:
    """Files of a glob, sorted.

    Raises:
        UserError: none match.
    """
    files = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    if not files:
        raise UserError("no such file", pattern)
    return files


def read_records(file: Path) -> Iterator[AnyRecord | BadRecord]:
    """Records of one file; JSON array and JSONL are told apart by the first character that is no white space.

    A file whose name says that it is code (anything but .json, .jsonl, .txt) is one `Document`.

    Raises:
        UserError: the file is no UTF-8, or a JSON array that does not parse (nothing after the error can be read).
    """
    with open(file, encoding="utf-8-sig") as stream:
        try:
            if file.suffix not in BY_CONTENT:
                yield _check(file, 0, None, {"text": stream.read()})
                return
            first = stream.read(1)
            while first and first.isspace():
                first = stream.read(1)
            stream.seek(0)
            yield from _read_array(file, stream.read()) if first == "[" else _read_lines(file, stream)
        except UnicodeDecodeError as error:
            raise UserError(f"is not UTF-8 text: {error.reason} at byte {error.start}", file) from None


def _read_array(file: Path, text: str) -> Iterator[AnyRecord | BadRecord]:
    try:
        items = json.loads(text.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        raise UserError(f"bad JSON: {error.msg} at column {error.colno}", file, error.lineno) from None
    for index, item in enumerate(items):
        yield _check(file, index, None, item)


def _read_lines(file: Path, stream: Any) -> Iterator[AnyRecord | BadRecord]:
    index = 0
    for number, line in enumerate(stream, 1):
        if not line.lstrip("\ufeff").strip():
            continue
        yield read_line(file, index, number, line)
        index += 1


def read_line(file: Path, index: int, number: int, line: str) -> AnyRecord | BadRecord:
    """Record ``index`` of a JSONL file, which stands in line ``number``."""
    line = line.lstrip("\ufeff").rstrip("\r\n")
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        return BadRecord(str(file), index, number, f"bad JSON: {error.msg} at column {error.colno}", line)
    return _check(file, index, number, item)


def _check(file: Path, index: int, line: int | None, item: Any) -> AnyRecord | BadRecord:
    def bad(reason: str) -> BadRecord:
        return BadRecord(str(file), index, line, reason, json.dumps(item, ensure_ascii=False)[:2000])

    if not isinstance(item, dict):
        return bad(f"expected an object, found {type(item).__name__}")
    if "chosen" in item and "rejected" in item:
        try:
            return Pair(str(file), index, line, *_pair(item))
        except ValueError as error:
            return bad(str(error))
    if "messages" in item or "conversations" in item:
        turns = item.get("messages", item.get("conversations"))
        try:
            return Conversation(str(file), index, line, check_turns(_messages(turns)))
        except ValueError as error:
            return bad(f"{'messages' if 'messages' in item else 'conversations'}: {error}")
    if "instruction" not in item and isinstance(text := item.get("text", item.get("content")), str):
        return Document(str(file), index, line, text) if text.strip() else replace(bad("text is empty"), broken=False)
    if "instances" in item and "output" not in item:  # Self-Instruct's seed tasks
        instances = item["instances"]
        if not (isinstance(instances, list) and instances and isinstance(instances[0], dict)):
            return bad("instances: expected a list of objects")
        item = {**item, **instances[0]}
    for key in ("instruction", "output"):
        if not isinstance(item.get(key), str):
            found = "nothing" if key not in item else type(item[key]).__name__
            return bad(f"{key}: expected a text, found {found}")
        if not item[key].strip():
            return replace(bad(f"{key} is empty"), broken=False)
    context = item.get("input") or ""
    if not isinstance(context, str):
        return bad(f"input: expected a text, found {type(context).__name__}")
    return Record(str(file), index, line, item["instruction"], context, item["output"])


def _messages(turns: Any) -> list[Message]:
    """OpenAI's ``{role, content}`` or ShareGPT's ``{from, value}``.

    Raises:
        ValueError: something else.
    """
    if not isinstance(turns, list):
        raise ValueError(f"expected a list, found {type(turns).__name__}")
    found = []
    for number, turn in enumerate(turns):
        turn = turn if isinstance(turn, dict) else {}
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if role not in ROLES or not isinstance(content, str):
            known = ", ".join(ROLES)
            raise ValueError(f"turn {number}: expected a role ({known}) and a text, found {str(turn)[:80]}")
        found.append(Message(ROLES[role], content))  # type: ignore[arg-type]
    return found


def _pair(item: dict[str, Any]) -> tuple[str, str, str, str]:
    """Instruction, input, chosen and rejected; answers as texts, or as messages of which the last one counts.

    Raises:
        ValueError: something else.
    """
    answers = []
    prompt = item.get("instruction", item.get("prompt", item.get("question")))
    for key in ("chosen", "rejected"):
        answer = item[key]
        if isinstance(answer, list):
            turns = check_turns(_messages(answer))
            if len(turns) != 2:
                raise ValueError(f"{key}: expected one question and one answer, found {len(turns)} messages")
            prompt, answer = prompt or turns[0].content, turns[1].content
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError(f"{key}: expected a text or messages, found {str(answer)[:80]!r}")
        answers.append(answer)
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = _messages(prompt)[0].content
    context = item.get("input") or ""
    if not isinstance(prompt, str) or not prompt.strip() or not isinstance(context, str):
        raise ValueError("instruction, prompt or question: expected a text")
    if answers[0] == answers[1]:
        raise ValueError("chosen and rejected are the same")
    return prompt, context, answers[0], answers[1]
