"""Other names of fields, KTO's verdicts, fields that nothing reads, and what is said when nothing can be learned."""

from __future__ import annotations

import json

import pytest

from mindcoder.data.prepared import TextOptions, prepare_texts
from mindcoder.data.preprocess import PreprocessOptions, preprocess, rejects_path
from mindcoder.data.readers import BadRecord, Reading, Record, Remarks, expand_glob, parse_columns, read_records
from mindcoder.data.readers.tools import call_text
from mindcoder.data.record_index import RecordIndex
from mindcoder.data.show import read_rows
from mindcoder.data.stream import StreamLoader, StreamOptions
from mindcoder.errors import UserError


def jsonl(path, *items):
    path.write_text("\n".join(json.dumps(item) for item in items) + "\n")
    return path


def options(source, target, **changes):
    return PreprocessOptions(source, target, **{"seq_length": 128, "workers": 1, "show_progress": False, **changes})


QA = Reading(parse_columns("instruction=q, output=a"))


def test_columns_give_fields_other_names(tmp_path):
    file = jsonl(
        tmp_path / "x.jsonl", {"q": "Q", "a": "A"}, {"q": "R", "a": "B", "instruction": "not this", "input": "i"}
    )
    first, second = read_records(file, QA)
    assert (first.instruction, first.output) == ("Q", "A") and first.unread == ()
    assert (second.instruction, second.input, second.output) == ("R", "i", "B") and second.unread == ("instruction",)
    index = RecordIndex([str(file)], QA)
    assert [index[0], index[1]] == [first, second]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("instruction", "expected pairs such as instruction=q,output=a"),
        ("instructon=q", "did you mean 'instruction'?"),
        ("instruction=q,instruction=p", "given twice"),
        ("instruction=q,output=q", "cannot be two fields at once"),
    ],
)
def test_columns_that_make_no_sense_are_refused(text, reason):
    with pytest.raises(ValueError, match=reason.replace("?", r"\?")):
        parse_columns(text)


@pytest.mark.parametrize("as_array", [False, True])
def test_a_column_that_no_record_has_is_refused(as_array, tmp_path):
    items = [{"q": "Q", "a": "A", "context": "c"}] * 2
    file = tmp_path / "x.json"
    file.write_text(json.dumps(items) if as_array else "\n".join(map(json.dumps, items)))
    reading = Reading(parse_columns("instruction=q,output=a,input=contxt"))
    with pytest.raises(UserError, match="columns: no record has a field 'contxt'"):
        list(read_records(file, reading))
    if not as_array:
        with pytest.raises(UserError, match="'contxt'"):
            RecordIndex([str(file)], reading)


def test_a_layout_that_is_named_is_the_only_one(tmp_path):
    file = jsonl(tmp_path / "x.jsonl", {"instruction": "I", "output": "O", "prompt": "P", "response": "R"})
    (free,) = read_records(file)
    (named,) = read_records(file, Reading(layout="prompt-response"))
    assert (free.instruction, free.unread) == ("I", ("prompt", "response"))
    assert (named.instruction, named.output) == ("P", "R")
    (wrong,) = read_records(file, Reading(layout="magicoder"))
    assert "known layouts: problem+solution;" in wrong.reason


def test_a_missing_field_names_those_that_are_there_and_the_layouts(tmp_path):
    file = jsonl(tmp_path / "x.jsonl", {"instruction": "I", "reply": "R", "output": None}, {"foo": 1}, {}, [1], 3)
    half, none, empty, array, number = read_records(file)
    assert half.reason.startswith("no field 'output'; the record has: instruction, reply, output (null); known")
    assert none.reason.startswith(
        "no known layout has these fields; the record has: foo; known layouts: chosen+rejected, messages, "
    )
    assert "the record has: none" in empty.reason
    assert array.reason == "expected an object, found a list" and number.reason == "expected an object, found a number"
    for layout in ("instruction+output", "problem+solution", "conversations", "plain_text", "--columns"):
        assert layout in none.reason


def test_fields_that_nothing_reads_are_counted(tmp_path):
    file = jsonl(
        tmp_path / "x.jsonl",
        {"id": 1, "source": "s", "instruction": "a", "output": "b", "explanation": "why", "hint": ""},
        {"instruction": "a", "output": "c", "explanation": "why"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "thinking": "hm"}]},
        {
            "conversations": [
                {"from": "gpt", "value": "x"},
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a"},
            ]
        },
        {"instruction": "a", "instances": [{"input": "", "output": "b"}, {"input": "", "output": "c"}]},
    )
    remarks = Remarks()
    first_lines = [remarks.see(record) for record in read_records(file)]
    assert first_lines[:2] == [f"{file}: nothing reads field explanation", ""]
    unread, left_out = remarks.lines()
    assert unread == (
        f"{file}: nothing reads explanation (2 records), turn.thinking (1 record), instances after the first (1 record)"
    )
    assert left_out == f"{file}: a first answer is left out: it has no question (1 record)"


def test_preprocess_says_what_nothing_reads(small_tokenizer, tmp_path, caplog):
    file = jsonl(tmp_path / "x.jsonl", {"instruction": "a", "output": "b", "why": "w"})
    _, statistics = preprocess(options(str(file), tmp_path / "o.mindrecord"), small_tokenizer)
    assert statistics.remarks.lines() == [f"{file}: nothing reads why (1 record)"]
    prepare_texts([str(file)], small_tokenizer, TextOptions(64, "plain"), tmp_path / "data", True)
    assert f"{file}: nothing reads why (1 record)" in caplog.text
    caplog.clear()
    stream = StreamLoader([str(file)], small_tokenizer, StreamOptions(64, "plain", batches=2))
    assert len(list(stream.batches())) == 2
    assert caplog.text.count("nothing reads field why") == 1


KTO = {
    "LLaMA-Factory": lambda good, n: {"instruction": "x", "output": f"y{n}", "kto_tag": good},
    "TRL": lambda good, n: {"prompt": "x", "completion": f"y{n}", "label": good},
    "messages": lambda good, n: {
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": f"y{n}"}], "label": good
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KTO)
def test_verdicts_are_refused_or_only_good_answers_are_learned(kind, small_tokenizer, tmp_path):
    file = jsonl(tmp_path / "kto.jsonl", *(KTO[kind](number != 1, number) for number in range(3)))
    with pytest.raises(
        UserError, match=r"kto.jsonl:1: record 0: (kto_tag|label): this is a KTO record.*desirable_only"
    ):
        preprocess(options(str(file), tmp_path / "o.mindrecord"), small_tokenizer)
    good = options(str(file), tmp_path / "o.mindrecord", reading=Reading(desirable_only=True))
    _, statistics = preprocess(good, small_tokenizer)
    assert (statistics.rows, statistics.rejected) == (2, 1)
    assert statistics.lines()[1].startswith("rejected: marked as undesirable (")
    texts = [small_tokenizer.decode(row["input_ids"].tolist()) for row in read_rows(str(good.output_file))]
    assert ["y1" in text for text in texts] == [False, False]


def test_the_public_kto_file_is_refused_by_name(shared_data):
    (found,) = read_records(shared_data / "originals" / "records" / "7_kto.json")
    assert isinstance(found, BadRecord) and found.reason.startswith("kto_tag: this is a KTO record")
    (found,) = read_records(shared_data / "originals" / "records" / "7_kto.json", Reading(desirable_only=True))
    assert isinstance(found, Record) and (found.instruction, found.output) == ("x", "y")


def test_a_class_named_label_is_no_verdict(tmp_path):
    file = jsonl(
        tmp_path / "x.jsonl", {"instruction": "a", "output": "b", "label": "NLI"}, {"text": "t", "label": True}
    )
    first, second = read_records(file)
    assert first.unread == ("label",) and second.unread == ("label",)


EMPTY = [
    ([{"instruction": "a", "output": ""}] * 2, "the 2 records cannot be used: output is empty (2)"),
    (
        [{"instruction": "word " * 200, "output": "b"}],
        "the only record cannot be used: the prompt alone fills seq_length",
    ),
    ([{"text": " "}, {"instruction": "", "output": "x"}], "text is empty (1); instruction is empty (1)"),
]


@pytest.mark.parametrize(("items", "reason"), EMPTY)
@pytest.mark.parametrize("packing", [False, True])
def test_an_empty_result_blames_the_input_and_says_why(items, reason, packing, small_tokenizer, tmp_path):
    file, target = jsonl(tmp_path / "x.jsonl", *items), tmp_path / "o.mindrecord"
    with pytest.raises(UserError) as error:
        preprocess(options([str(file)], target, packing=packing), small_tokenizer)
    assert str(error.value).startswith(f"{file}: nothing to learn: ") and reason in str(error.value)
    assert list(tmp_path.iterdir()) == [file]


def test_errors_while_reading_reach_the_caller_from_worker_processes(small_tokenizer, tmp_path):
    file = jsonl(tmp_path / "x.jsonl", *({"q": str(number), "a": "b"} for number in range(300)))
    asked = options(
        str(file),
        tmp_path / "o.mindrecord",
        workers=2,
        reading=Reading(parse_columns("instruction=q,output=a,input=z")),
    )
    with pytest.raises(UserError, match=r"x.jsonl: columns: no record has a field 'z'"):
        preprocess(asked, small_tokenizer)
    assert list(tmp_path.iterdir()) == [file]


def test_bad_records_only_are_all_named(small_tokenizer, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"a": 1}\nno json\n')
    with pytest.raises(UserError, match=r"the 2 records cannot be used: no known layout has these fields.*bad JSON"):
        preprocess(options(str(file), tmp_path / "o.mindrecord", skip_bad=True), small_tokenizer)


@pytest.mark.parametrize("content", ["", "\n \n", "[]", "\ufeff"])
def test_files_without_a_record_say_so(content, small_tokenizer, tmp_path):
    file, target = tmp_path / "x.json", tmp_path / "o.mindrecord"
    file.write_text(content)
    with pytest.raises(UserError, match=r"x.json: holds no record"):
        preprocess(options(str(file), target), small_tokenizer)
    jsonl(tmp_path / "y.json", {"instruction": "a", "output": "b"})
    _, statistics = preprocess(options(str(tmp_path / "*.json"), target), small_tokenizer)
    assert statistics.remarks.lines() == [f"{file}: holds no record"] and statistics.rows == 1


def test_several_patterns_name_each_file_once(tmp_path):
    for name in ("b.json", "a.json", "c[1].json"):
        (tmp_path / name).write_text("[]")
    found = expand_glob([str(tmp_path / "c[1].json"), str(tmp_path / "*.json"), str(tmp_path / "a.json")])
    assert [file.name for file in found] == ["c[1].json", "a.json", "b.json"]
    (tmp_path / "link.json").symlink_to(tmp_path / "gone.json")
    for pattern, reason in (
        (tmp_path, "is a folder; name its files"),
        (tmp_path / "link.json", "is a link to .*gone.json, which does not exist"),
        (tmp_path / "none*.json", "no such file"),
        ("/dev/null", "is not a regular file"),
    ):
        with pytest.raises(UserError, match=reason):
            expand_glob([str(tmp_path / "a.json"), str(pattern)])


def test_pairs_among_instructions_say_which_file_and_what_to_do(small_tokenizer, tmp_path):
    jsonl(tmp_path / "a.json", {"instruction": "a", "output": "b"})
    pairs = jsonl(tmp_path / "b.json", {"instruction": "a", "chosen": "b", "rejected": "c"})
    with pytest.raises(UserError, match=r"b.json:1: record 0: is a pair.*by itself with --pairs, or name the other"):
        preprocess(options(str(tmp_path / "*.json"), tmp_path / "o.mindrecord"), small_tokenizer)
    with pytest.raises(UserError, match=r"a.json:1: record 0: is not a pair.*leave --pairs out"):
        preprocess(options(str(tmp_path / "*.json"), tmp_path / "o.mindrecord", pairs=True), small_tokenizer)
    alone = options(str(pairs), tmp_path / "o.mindrecord", pairs=True, seq_length=512)
    _, statistics = preprocess(alone, small_tokenizer)
    assert statistics.rows == 1 and not rejects_path(tmp_path / "o.mindrecord").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (r'{"city": "\ud800"}', "half of a character"),
        ("[" * 100 + "]" * 100, "expected a call"),
    ],
    ids=["surrogate", "lists"],
)
def test_json_within_the_text_of_a_call_is_looked_at_too(arguments, said, tmp_path):
    """It was part of a text when the record was read."""
    call = {"name": "weather", "arguments": arguments} if arguments.startswith("{") else arguments
    turns = [
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": json.dumps(call) if isinstance(call, dict) else call},
    ]
    (found,) = read_records(jsonl(tmp_path / "x.jsonl", {"conversations": turns}))
    assert isinstance(found, BadRecord) and said in found.reason


def test_arguments_too_deep_to_be_written_are_refused(monkeypatch):
    """There is one depth (it depends on the stack) that Python's parser reads and its writer does not write."""

    def write(*_, **__):
        raise RecursionError

    monkeypatch.setattr("mindcoder.data.readers.tools.json.dumps", write)
    with pytest.raises(ValueError, match="nested too deep"):
        call_text({"name": "weather", "arguments": {}})
