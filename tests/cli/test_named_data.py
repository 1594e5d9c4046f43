"""Data by name, several files, other columns: from the command line and a run's YAML file."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from conftest import REPOSITORY, SAMPLES

from mindcoder.cli.arguments import config_flags
from mindcoder.cli.main import build_parser, main
from mindcoder.config.load import load_config
from mindcoder.config.registry import find_registry, lookup, read_registry
from mindcoder.data.readers import FORMATS, Reading, read_records
from mindcoder.data.show import read_rows
from mindcoder.data.sources import resolve
from mindcoder.errors import UserError
from mindcoder.parallel.mesh import SINGLE
from mindcoder.train.datasets import build_stream, reading_of
from mindcoder.train.job import with_prepared_texts, with_registered_data

TINY = str(REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of our own: ``mine`` has other columns, ``far`` is nowhere."""
    (tmp_path / "mine.jsonl").write_text(json.dumps({"q": "Q", "a": "A"}) + "\n")
    entries = {
        "mine": {"path": "mine.jsonl", "format": "alpaca", "columns": "instruction=q,output=a", "licence": "mine",
                 "source": "me"},
        "far": {"format": "magicoder", "licence": "unverified", "source": "https://example.org/far"},
    }  # fmt: skip
    file = tmp_path / "registry.yaml"
    file.write_text(yaml.safe_dump(entries, sort_keys=False))
    monkeypatch.setenv("MINDCODER_REGISTRY", str(file))
    return file


def test_every_entry_of_ours_can_be_read_or_says_where_it_is(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    entries = read_registry(find_registry())
    assert {entry.format for entry in entries.values()} <= {*FORMATS, "mindrecord"}
    here = {name for name, entry in entries.items() if entry.path}
    assert here == {"samples", "sample_pairs"}
    for name in here:
        source = resolve([f"name:{name}"], Reading())
        assert len(list(read_records(REPOSITORY / source.patterns[0], source.reading))) == 48
    for name in entries.keys() - here:
        assert re.search(r"https://\S+", entries[name].source)
        with pytest.raises(UserError, match=f"{name} has no path: get it from https://"):
            resolve([name], Reading())


def test_data_ls_has_an_aligned_line_for_each_dataset_and_all_of_one_that_is_named(registry, capsys):
    assert main(["data", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head, mine, *_, far, place = lines
    assert head.split() == ["NAME", "FORMAT", "LICENCE", "PATH"] and place.startswith(f"{registry}; data ls NAME says")
    assert mine.startswith("mine ") and far.startswith("far ") and len(lines) == len(read_registry(registry)) + 2
    column = head.index("PATH")
    assert mine[column:] == str(registry.parent / "mine.jsonl") and far[column:] == "not here"
    assert main(["data", "ls", "name:mine", "far"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine  (alpaca)" and "    columns  instruction=q,output=a" in lines
    assert f"    path     {registry.parent / 'mine.jsonl'}" in lines
    assert lines[-3:] == [
        "    path     not here; get it from its source",
        "    licence  unverified",
        "    source   https://example.org/far",
    ]
    assert main(["data", "ls", "fax"]) == 2
    assert "no dataset 'fax'; did you mean 'far'?" in capsys.readouterr().err


def test_a_name_stands_for_its_file_columns_and_layout(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("mine", "name:mine"):
        sources = resolve([given], Reading())
        assert sources.patterns == (str(tmp_path / "mine.jsonl"),)
        assert sources.reading == Reading((("instruction", "q"), ("output", "a")), "alpaca")
    assert resolve(["mine"], Reading((("instruction", "a"), ("output", "q")))).reading.columns[0] == (
        "instruction",
        "a",
    )
    (tmp_path / "mine").write_text("a file of that name")
    assert lookup("mine") is None and lookup("name:mine") is not None
    assert lookup("other.json") is None and lookup("a/b") is None and lookup("x*") is None
    with pytest.raises(UserError, match="no dataset 'mien'; did you mean 'mine'?"):
        lookup("name:mien")
    with pytest.raises(UserError, match="are read differently"):
        resolve(["name:mine", str(SAMPLES)], Reading())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x: {paht: a}", "1: x: unknown key 'paht'; known: path"),
        ("x: 3", "1: x: expected the keys path, format"),
        ("x:\n  licence: MIT\n  source: [a]", "3: x.source: expected a text"),
        ("x: {source: a}", "1: x: licence is missing"),
        ("x: {licence: a, source: b, path: c, format: alpca}", "1: x.format: expected one of mindrecord, preference"),
        ("x: {licence: a, source: b, path: c, columns: q}", "1: x.columns: expected pairs such as"),
        ("- x", "1: expected keys and values at the top"),
    ],
)
def test_a_wrong_registry_is_named_by_its_line(text, reason, registry):
    registry.write_text(text)
    with pytest.raises(UserError) as error:
        resolve(["name:x"], Reading())
    assert f"registry.yaml:{reason}" in str(error.value)


def test_a_run_reads_named_data_with_its_columns(registry, tmp_path, small_tokenizer):
    config, _ = load_config(TINY, ["train_dataset.data_loader.dataset_dir=name:mine", "run_mode=finetune"], {})
    loader = with_registered_data(config).train_dataset.data_loader
    assert loader.locations == [str(tmp_path / "mine.jsonl")]
    assert reading_of(loader) == Reading((("instruction", "q"), ("output", "a")), "alpaca")
    other, _ = load_config(TINY, ["train_dataset.data_loader.columns=instruction=q,output=a"], {})
    assert reading_of(other.train_dataset.data_loader).columns == (("instruction", "q"), ("output", "a"))
    for key, value, reason in (
        ("columns", "instruction", "expected pairs"),
        ("record_format", "alpca", "expected one of"),
    ):
        wrong, _ = load_config(TINY, [f"train_dataset.data_loader.{key}={value}"], {})
        with pytest.raises(UserError, match=f"train_dataset.data_loader.{key}: {reason}"):
            reading_of(wrong.train_dataset.data_loader)


def preprocess(tokenizer_folder, output, *flags) -> int:
    arguments = ["preprocess", "--vocab_file", tokenizer_folder / "tokenizer.json", "--seq_length", 128, "--workers", 1]
    return main([*map(str, (*arguments, "--output_file", output, *flags))])


def test_preprocess_takes_unquoted_files_columns_and_names(
    registry, tokenizer_folder, small_tokenizer, tmp_path, capsys
):
    files = [tmp_path / f"{name}.jsonl" for name in "ab"]
    for file in files:
        file.write_text(json.dumps({"q": f"question {file.stem}", "a": file.stem, "note": "n"}) + "\n")
    target = tmp_path / "o.mindrecord"
    assert preprocess(tokenizer_folder, target, "--input_glob", *files, "--columns", "instruction=q,output=a") == 0
    screen = capsys.readouterr().out
    assert "records 2 (rejected 0" in screen
    assert [f"note: {file}: nothing reads note (1 record)" in screen for file in files] == [True, True]
    texts = [small_tokenizer.decode(row["input_ids"].tolist()) for row in read_rows(str(target))]
    assert ["question a" in texts[0], "question b" in texts[1]] == [True, True]
    assert preprocess(tokenizer_folder, target, "--input_glob", "name:mine") == 2
    assert "o.mindrecord: exists; add --overwrite to replace it" in capsys.readouterr().err
    assert preprocess(tokenizer_folder, target, "--input_glob", "name:mine", "--overwrite") == 0
    assert "records 1 (" in capsys.readouterr().out


def test_preprocess_ends_with_2_and_one_line(tokenizer_folder, tmp_path, capsys):
    empty, pairs = tmp_path / "empty.json", REPOSITORY / "datasets" / "sample_pairs.json"
    empty.write_text("")
    target = tmp_path / "o.mindrecord"
    for flags, reason in (
        (["--input_glob", empty], "empty.json: holds no record"),
        (["--input_glob", SAMPLES, pairs], "sample_pairs.json: record 0: is a pair of answers"),
        (["--input_glob", tmp_path], "is a folder; name its files"),
        (["--input_glob", "name:nothing_of_that_kind"], "no dataset 'nothing_of_that_kind'"),
    ):
        assert preprocess(tokenizer_folder, target, *flags) == 2
        screen = capsys.readouterr()
        assert reason in screen.err and screen.err.count("\n") == 1
        assert not list(tmp_path.glob("o.mindrecord*"))
    with pytest.raises(SystemExit) as ended:
        preprocess(tokenizer_folder, target, "--input_glob", SAMPLES, "--columns", "instruktion=q")
    assert ended.value.code == 2 and "did you mean 'instruction'?" in capsys.readouterr().err


def test_an_input_is_never_written_over(tokenizer_folder, tmp_path, capsys):
    file, other = tmp_path / "x.jsonl", tmp_path / "y.jsonl"
    for path in (file, other):
        path.write_text(json.dumps({"text": "print('hello')"}))
    before = file.read_bytes()
    assert preprocess(tokenizer_folder, file, "--input_glob", file) == 2
    assert preprocess(tokenizer_folder, tmp_path, "--input_glob", file) == 2
    assert main(["data", "dedup", str(file), str(file)]) == 2
    assert main(["data", "dedup", str(file), str(other), str(other)]) == 2
    assert main(["data", "dedup", str(file), str(tmp_path / "none.jsonl"), str(other)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ", 3)[-1] for line in told] == [
        "is one of the files to read; it would be overwritten",
        "is a folder, a file is expected",
        "is one of the files to read; it would be overwritten",
        "is one of the files to read; it would be overwritten",
        "no such file",
    ]
    (tmp_path / "z.jsonl").write_text("old")
    assert main(["data", "dedup", str(file), str(other), str(tmp_path / "z.jsonl")]) == 2
    assert "give a new name" in capsys.readouterr().err
    assert file.read_bytes() == other.read_bytes() == before and (tmp_path / "z.jsonl").read_text() == "old"


def test_a_runs_text_files_are_read_with_its_columns(tmp_path, small_tokenizer, registry):
    file, length = tmp_path / "mine.jsonl", "model.model_config.seq_length=128"
    keys = ["output_dir=" + str(tmp_path / "run"), f"train_dataset.data_loader.dataset_dir={file}", length]
    config, _ = load_config(TINY, [*keys, "train_dataset.data_loader.columns=instruction=q,output=a"], {})
    made = with_prepared_texts(config, "finetune", small_tokenizer, True).train_dataset.data_loader.locations
    (row,) = read_rows(made[0])
    assert "### Instruction:\nQ\n\n### Response:A" in small_tokenizer.decode(row["input_ids"].tolist())
    plain, _ = load_config(TINY, keys, {})
    with pytest.raises(UserError, match=r"mine.jsonl:1: record 0: no known layout .* has: q, a;"):
        with_prepared_texts(plain, "finetune", small_tokenizer, True)
    binary, _ = load_config(TINY, [f"train_dataset.data_loader.dataset_dir={made[0]}",
                                   "train_dataset.data_loader.desirable_only=True"], {})  # fmt: skip
    with pytest.raises(UserError, match="say how JSON and JSONL are read; give them to preprocess"):
        with_prepared_texts(binary, "finetune", small_tokenizer, True)
    streamed, _ = load_config(TINY, [*keys, "train_dataset.data_loader.columns=instruction=q,output=a",
                                     "runner_config.max_steps=1"], {})  # fmt: skip
    loader = build_stream(streamed, small_tokenizer, 1, SINGLE)
    assert loader.records[0].instruction == "Q"


def test_cleaning_keeps_records_as_they_are(tmp_path, capsys):
    items = [{"id": n, "q": f"Which number is {n} in words?", "a": str(n) * 9, "extra": [n]} for n in range(3)]
    file, target = tmp_path / "x.jsonl", tmp_path / "o.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in [*items, items[0]]))
    assert main(["data", "dedup", str(file), str(target), "--columns", "instruction=q,output=a"]) == 0
    assert [json.loads(line) for line in target.read_text().splitlines()] == items
    assert "3 records kept, 1 left out" in capsys.readouterr().out
    assert main(["data", "dedup", str(SAMPLES), str(target)]) == 2
    assert "o.jsonl: exists; add --overwrite to replace it" in capsys.readouterr().err
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"instruction": "a", "output": ""}\n' * 2)
    assert main(["data", "dedup", str(empty), str(target), "--overwrite"]) == 2
    assert "empty.jsonl: all records are left out: output is empty (2)" in capsys.readouterr().err
    assert main(["data", "dedup", str(empty), str(SAMPLES), str(tmp_path / "both.jsonl")]) == 0
    assert "also left out, nothing to learn: output is empty (2)" in capsys.readouterr().out
    empty.write_text("")
    assert main(["data", "dedup", str(empty), str(target), "--overwrite"]) == 2
    assert "empty.jsonl: holds no record" in capsys.readouterr().err
    assert len(target.read_text().splitlines()) == 3
    problem = next(iter(json.loads(SAMPLES.read_text(encoding="utf-8"))))["output"]
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(
        {"task_id": 11, "text": problem, "code": problem, "test_list": ["assert 1"], "test_setup_code": "",
         "challenge_test_list": []}) + "\n")  # fmt: skip
    empty.write_text(json.dumps({"text": problem}))
    against = ["--against", f"mbpp={tmp_path / 'mbpp.jsonl'}"]
    assert main(["data", "decontaminate", str(empty), str(target), "--overwrite", *against]) == 2
    assert "all records are left out: 1 repeat something, such as mbpp" in capsys.readouterr().err


def test_a_tokenizer_is_trained_on_records_of_any_layout(registry, tmp_path, capsys):
    talk = {"messages": [{"role": "user", "content": "sort"}, {"role": "assistant", "content": "sorted(x)"}]}
    (tmp_path / "t.json").write_text(json.dumps([talk, {"instruction": "a", "output": ""}]))
    asked = ["--vocab_size", "300", "--output_dir", str(tmp_path / "tokenizer")]
    assert main(["train-tokenizer", "--input_glob", str(tmp_path / "t.json"), str(SAMPLES), *asked]) == 0
    assert "records left out: 1 " in capsys.readouterr().out
    (tmp_path / "t.json").write_text("[{}]")
    assert main(["train-tokenizer", "--input_glob", str(tmp_path / "t.json"), *asked]) == 2
    assert "record 0: no known layout has these fields" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "section"), [("finetune", "train_dataset"), ("eval", "eval_dataset")])
def test_a_runs_columns_are_those_of_its_dataset(verb, section):
    arguments = build_parser().parse_args([verb, "--config", TINY, "--columns", "instruction=q,output=a"])
    config, _ = load_config(TINY, [], config_flags(arguments, verb))
    assert reading_of(getattr(config, section).data_loader).columns == (("instruction", "q"), ("output", "a"))
