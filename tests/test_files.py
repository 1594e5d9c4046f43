"""Reading within bounds: what is wrong with a file is said in one line, before work or memory goes into it."""

from __future__ import annotations

import os

import pytest

from mindcoder.errors import NoSpaceError, UserError
from mindcoder.files import json_depth, no_space_error, parse_json, read_json, read_json_object, read_text


def said(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_reads_what_is_well_formed(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, "[[[\\"{"]}')
    assert read_json_object(file) == {"a": [1, 2.5, '[[["{']}
    file.write_text('"é"', encoding="utf-8")
    assert read_json(file) == "é" and read_text(file) == '"é"'


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "a.json:1: bad JSON: Expecting value"),
        (b'{"a": 1,\n "b" 2}', "a.json:2: bad JSON: Expecting ':' delimiter"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": -Infinity}', "-Infinity is not a finite number"),
        (b'{"a": 1e999}', "1e999 is not a finite number"),
        (b'{"a": ' + b"1" * 5000 + b"}", "a number of more than 4300 digits"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested more than 64 deep"),
        (b'{"a": 1}\n\xff', "a.json:2: is not UTF-8 text: invalid start byte (byte 9)"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16, expected UTF-8"),
        (b"[1]", "holds a list, expected an object"),
        (b"null", "holds null, expected an object"),
        (b'{"a": "' + b"x" * 1000 + b'"}', "is longer than 1000 bytes"),
    ],
)
def test_refuses_what_is_not(content, expected, tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    assert expected in said(read_json_object, file, limit=1000 if len(content) < 2000 else 1 << 20)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert said(read_text, tmp_path / "none").endswith("no such file")
    assert said(read_text, tmp_path).endswith("is a folder, a file is expected")
    assert said(read_text, tmp_path / "pipe").endswith("is not a regular file")
    assert said(read_text, "/dev/zero").endswith("is not a regular file")
    assert said(read_text, "a\0b").endswith("null byte")
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in said(read_text, tmp_path / "loop")


def test_a_pipe_of_the_shell_is_a_file():
    reading, writing = os.pipe()
    os.write(writing, b"{}")
    os.close(writing)
    assert read_json_object(f"/dev/fd/{reading}") == {}
    os.close(reading)


def test_records_are_named_by_line():
    assert said(parse_json, "{1}", "d.jsonl", 7, what="record 3").startswith("d.jsonl:7: record 3: bad JSON: ")
    assert parse_json("[NaN, Infinity]", None, non_finite=True)[1] == float("inf")


def test_depth_is_counted_in_one_pass_over_hostile_text():
    """Brackets in texts do not count, and no text makes the scan start again at each quote."""
    assert json_depth('{"a": [1, {"b": "[[[["}]}') == 3
    assert json_depth('"' + '\\"' * 2_000_000 + "[") == 0  # quadratic, this would take hours
    assert json_depth("[" * 1_000_000, 64) == 1_000_000


@pytest.mark.parametrize(
    "said",
    [
        "Exception thrown from dataset pipeline.\n[ERROR] No free disk to be used while writing mindrecord files, "
        "available free disk size: 3",
        "database or disk is full",
        "I/O error: No space left on device (os error 28)",
    ],
)
def test_a_full_disk_is_said_to_be_full_whichever_library_notices(said, tmp_path):
    expected = pytest.raises(NoSpaceError, match="d.mindrecord: no disk space left to write it")
    with expected, no_space_error(tmp_path / "d.mindrecord"):
        raise RuntimeError(said)
