"""Detects the layout of a record and reads it. docs/data.md has an example of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mindcoder.data.readers.conversations import moss, moss_002, turns_of
from mindcoder.data.readers.fields import Fields, UnusableRecord
from mindcoder.data.readers.pairs import pair
from mindcoder.data.readers.reading import Reading
from mindcoder.data.readers.record import AnyRecord, BadRecord, Document, Pair
from mindcoder.data.readers.single import Origin, prompt_and_completion, self_instruct, single_turn, whole_text
from mindcoder.errors import UserError
from mindcoder.files import json_kind, parse_json

SHOWN = 2000  # characters of a bad record that are kept


@dataclass(frozen=True)
class Layout:
    """The fields that identify a layout, and its reader."""

    name: str
    needs: tuple[str, ...]
    read: Callable[[Fields, Origin], AnyRecord]


LAYOUTS = (  # the first match is used
    Layout("preference", ("chosen", "rejected"), pair),
    Layout("openai", ("messages",), turns_of("messages")),
    Layout("sharegpt", ("conversations",), turns_of("conversations")),
    Layout("moss", ("chat",), moss),
    Layout("moss-002", ("plain_text",), moss_002),
    Layout("firefly-multi", ("conversation",), turns_of("conversation")),
    Layout("alpaca", ("instruction", "output"), single_turn("instruction", "output", "input")),
    Layout("self-instruct", ("instruction", "instances"), self_instruct),
    Layout("dolly", ("instruction", "response"), single_turn("instruction", "response", "context")),
    Layout("magicoder", ("problem", "solution"), single_turn("problem", "solution")),
    Layout("prompt-response", ("prompt", "response"), single_turn("prompt", "response")),
    Layout("prompt-completion", ("prompt", "completion"), prompt_and_completion),
    Layout("question-answer", ("question", "answer"), single_turn("question", "answer")),
    Layout("question-response", ("question", "response"), single_turn("question", "response")),
    Layout("query-answer", ("query", "answer"), single_turn("query", "answer")),
    Layout("query-response", ("query", "response"), single_turn("query", "response")),
    Layout("firefly", ("input", "target"), single_turn("input", "target")),
    Layout("input-output", ("input", "output"), single_turn("input", "output")),
    Layout("text", ("text",), whole_text("text")),
    Layout("code", ("content",), whole_text("content")),
)
WHOLE_TEXTS = ("text", "code")
FORMATS = tuple(layout.name for layout in LAYOUTS)


def read_line(file: Path, index: int, number: int, line: str, reading: Reading = Reading()) -> AnyRecord | BadRecord:
    """Record ``index`` of a JSONL file, from line ``number``."""
    line = line.lstrip("\ufeff").rstrip("\r\n")
    try:
        item = parse_json(line, None, number)
    except UserError as error:
        return BadRecord(str(file), index, number, str(error), line[:SHOWN])
    return read_item(file, index, number, item, reading)


def read_item(
    file: Path, index: int, line: int | None, item: Any, reading: Reading = Reading()
) -> AnyRecord | BadRecord:
    """The record in a JSON value, or why there is none."""
    try:
        if not isinstance(item, dict):
            raise ValueError(f"expected an object, found {json_kind(item)}")
        fields = Fields(item, reading)
        fields.refuse_other_media()
        layout = _layout(fields, reading)
        record = layout.read(fields, (str(file), index, line))
        if not isinstance(record, (Document, Pair)):
            _check_verdict(fields, reading)
        _check_characters(record)
    except ValueError as error:
        text = json.dumps(item, ensure_ascii=False)[:SHOWN].encode("utf-8", "backslashreplace").decode()
        return BadRecord(str(file), index, line, str(error), text, broken=not isinstance(error, UnusableRecord))
    unread = fields.unread()
    if not (unread or fields.remark or reading.keep_raw):
        return record
    return replace(record, unread=unread, remark=fields.remark, raw=item if reading.keep_raw else None)


def _layout(fields: Fields, reading: Reading) -> Layout:
    """The layout of a record.

    Raises:
        ValueError: unknown; names the fields that are present and those that would be understood.
    """
    known = [layout for layout in LAYOUTS if layout.name == reading.layout] if reading.layout else LAYOUTS
    present = fields.present()
    for layout in known:
        if not present.issuperset(layout.needs) or (layout.name in WHOLE_TEXTS and "instruction" in present):
            continue  # an instruction whose answer is missing is not plain text
        return layout
    if present >= {"completions", "labels"}:
        raise ValueError("completions and labels: there is no objective for stepwise supervision here")
    there = ", ".join(name + (" (null)" if value is None else "") for name, value in list(fields.item.items())[:20])
    partly = [(len(present.intersection(layout.needs)), layout) for layout in known]
    most, nearest = max(partly, key=lambda pair: pair[0], default=(0, None))
    missing = [name for name in nearest.needs if name not in present] if nearest and most else []
    layouts = ", ".join("+".join(layout.needs) for layout in known)
    lead = f"no field {missing[0]!r}" if missing else "no known layout has these fields"
    raise ValueError(f"{lead}; the record has: {there or 'none'}; known layouts: {layouts}; --columns renames fields")


def _check_verdict(fields: Fields, reading: Reading) -> None:
    """Handle records with a verdict on their answer: KTO's ``kto_tag`` (LLaMA-Factory) or ``label`` (TRL).

    Raises:
        ValueError: it is not configured what to do with them.
        UnusableRecord: it is undesirable and those are dropped.
    """
    name = "kto_tag" if fields.has("kto_tag") else "label"
    value = fields.peek(name) if name == "label" else fields.raw(name)
    if name == "label" and not (isinstance(value, bool) or (value in (0, 1) and fields.has("completion"))):
        return  # a class name or index, which `unread` reports
    fields.raw(name)
    if value not in (0, 1):
        raise ValueError(f"{name}: expected true or false, found {str(value)[:40]!r}")
    if not reading.desirable_only:
        raise ValueError(
            f"{name}: this is a KTO record, and there is no KTO objective here; --desirable_only learns the answers "
            "marked true and leaves the others out"
        )
    if not value:
        raise UnusableRecord(f"marked as undesirable ({name})")


def _check_characters(record: AnyRecord) -> None:
    """Refuse a lone surrogate (``\\ud83d``), which JSON can write but text cannot contain.

    Raises:
        ValueError: there is one.
    """
    for text in record.texts():
        if text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"holds {text[error.start]!a}, half of a character (a lone surrogate)") from None
