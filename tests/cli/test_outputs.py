"""What a verb is asked to write: never in the place of a device, a pipe, a folder or a file that it reads."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest
from conftest import REPOSITORY

from mindcoder.cli.main import main
from mindcoder.data.mindrecord_file import find_dataset
from mindcoder.errors import UserError
from mindcoder.files import write_text
from mindcoder.generate.run import read_prompts

TINY = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
READ = "is one of the files to read; it would be overwritten"


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # names of sockets are short


def make_link_to_pipe(path):
    make_pipe(path.with_name("pipe"))
    path.symlink_to("pipe")


def make_dangling_link(path):
    path.symlink_to("nowhere")


KINDS = [make_pipe, make_socket, make_link_to_pipe, make_dangling_link, Path.mkdir]


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said and "internal error" not in said
        return said.strip().splitlines()[-1]

    return call


@pytest.fixture
def records(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"instruction": f"add {n}", "output": f"x + {n}"}) + "\n" for n in range(3)))
    return file


@pytest.fixture
def prepare(tokenizer_folder):
    return ["preprocess", "--vocab_file", tokenizer_folder / "tokenizer.json", "--seq_length", 128, "--workers", 1]


@pytest.fixture
def run_folder(tmp_path):
    curves = tmp_path / "run" / "curves"
    curves.mkdir(parents=True)
    head = "step,loss,grad_norm,learning_rate,tokens_per_second\n"
    (curves / "loss.csv").write_text(head + "1,2.0,1.0,0.1,10\n")
    return curves.parent


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_no_regular_file_is_not_replaced(make, refused, records, prepare, run_folder, tmp_path):
    target = tmp_path / "o.html"
    make(target)
    before = target.lstat()
    with pytest.raises(UserError, match=r"o.html: is (not a regular file|a folder|a link to nowhere)"):
        write_text(target, "x")
    for call in (
        ["data", "dedup", records, target, "--overwrite"],
        [*prepare, "--input_glob", records, "--output_file", target, "--overwrite"],
        ["data", "show", tmp_path / "none", "--vocab_file", "none.json", "--html", target],
        ["report", run_folder, "--output_file", target],
        ["bench", "none", "--output_file", target],
    ):
        assert (
            refused(*call).split("o.html: ")[1].startswith(("is not a regular", "is a folder", "is a link to nowhere"))
        )
    after = target.lstat()
    assert (after.st_ino, stat.S_IFMT(after.st_mode)) == (before.st_ino, stat.S_IFMT(before.st_mode))
    assert not list(tmp_path.glob(".*tmp-*")) and not list(tmp_path.glob("o.html.*"))


def test_of_a_link_the_file_is_replaced_and_the_link_stays(records, prepare, tmp_path):
    (tmp_path / "far").mkdir()
    for name in ("o.jsonl", "o.mindrecord", "o.mindrecord.db"):
        (tmp_path / "far" / name).write_text("old")
        (tmp_path / name).symlink_to(Path("far") / name)
    assert main(["data", "dedup", str(records), str(tmp_path / "o.jsonl"), "--overwrite"]) == 0
    target = tmp_path / "o.mindrecord"
    assert main([*map(str, prepare), "--input_glob", str(records), "--output_file", str(target), "--overwrite"]) == 0
    for name in ("o.jsonl", "o.mindrecord", "o.mindrecord.db"):
        assert (tmp_path / name).is_symlink() and (tmp_path / "far" / name).stat().st_size > 3
    assert find_dataset(str(target))[1].rows == 3
    from mindcoder.data.show import read_rows

    assert len(list(read_rows(str(target)))) == 3


@pytest.mark.parametrize("name", ["o.meta.json", "o.db", "o.rejects.jsonl", "o0", "o1", "o1.db"])
def test_what_stands_beside_a_dataset_is_only_replaced_when_asked_to(name, refused, records, prepare, tmp_path):
    (tmp_path / name).write_text("mine")
    call = [*prepare, "--input_glob", records, "--output_file", tmp_path / "o", "--file_partition", 2]
    assert refused(*call).endswith(f"{name}: exists; add --overwrite to replace it")
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["o.meta.json", "o.db", "o.rejects.jsonl", "o1"])
def test_an_input_is_never_a_companion_of_the_dataset(name, refused, records, prepare, tmp_path):
    source = records.rename(tmp_path / name)
    before = source.read_bytes()
    call = [*prepare, "--input_glob", source, "--output_file", "o", "--file_partition", 2, "--overwrite"]
    assert refused(*call).endswith(f"{name}: {READ}")
    assert source.read_bytes() == before


def test_pages_are_written_to_html_files_only(refused, records, prepare, run_folder, tmp_path, tokenizer_folder):
    dataset, vocabulary = tmp_path / "o.mindrecord", tmp_path / "vocabulary.html"
    assert main([*map(str, prepare), "--input_glob", str(records), "--output_file", str(dataset)]) == 0
    vocabulary.write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    show = ["data", "show", dataset, "--vocab_file", vocabulary, "--html"]
    (tmp_path / "link.html").symlink_to(f"{dataset}.db")
    (run_folder / "run.json").write_text("{}")
    suffix = "a page is written: expected a name that ends in .html"
    files = [dataset, Path(f"{dataset}.db"), vocabulary, run_folder / "run.json"]
    before = [file.read_bytes() for file in files]
    assert refused(*show, f"{dataset}.db").endswith(suffix)
    assert refused(*show, tmp_path / "link.html").endswith(suffix)
    assert refused(*show, vocabulary).endswith(READ)
    assert refused("report", run_folder, "--output_file", run_folder / "run.json").endswith(suffix)
    assert [file.read_bytes() for file in files] == before
    (run_folder / "run.json").unlink()
    for _ in range(2):  # a page of ours is replaced
        assert main([*map(str, show), str(tmp_path / "page.html")]) == 0
        assert main(["report", str(run_folder)]) == 0


def test_answers_never_replace_their_prompts(refused, tokenizer_folder, tmp_path):
    prompts, weights = tmp_path / "q.txt", tmp_path / "weights"
    prompts.write_text("add\n")
    weights.mkdir()
    (tmp_path / "link.jsonl").symlink_to("q.txt")
    vocabulary = tmp_path / "tokenizer.json"
    vocabulary.write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    call = ["predict", "--config", TINY, "--load_checkpoint", weights, "--vocab_file", vocabulary]
    for name in ("q.txt", "link.jsonl", "tokenizer.json"):
        assert refused(*call, "--predict_data", prompts, "--output_file", name).endswith(f"{name}: {READ}")
    (weights / "config.json").write_text("{}")
    inside = refused(*call, "--predict_data", prompts, "--output_file", "weights/config.json")
    assert inside.endswith(f"weights/config.json: is a file of {weights}, which is read; it would be overwritten")
    make_pipe(tmp_path / "pipe")
    assert refused(*call, "--predict_data", prompts, "--output_file", "pipe").endswith("pipe: is not a regular file")
    assert prompts.read_text() == "add\n"


def test_a_name_that_ends_in_a_slash_is_no_file(refused, records, prepare, tokenizer_folder, tmp_path):
    slash = "newdir/: a file is written here: expected a name that does not end in /"
    assert refused("data", "dedup", records, "newdir/").endswith(slash)
    assert refused(*prepare, "--input_glob", records, "--output_file", "newdir/").endswith(slash)
    assert not (tmp_path / "newdir").exists()


def test_one_file_verbs_do_not_mind_a_neighbour_that_ends_in_0(records, tmp_path):
    (tmp_path / "out0").write_text("mine")
    assert main(["data", "dedup", str(records), str(tmp_path / "out")]) == 0
    assert len((tmp_path / "out").read_text().splitlines()) == 3 and (tmp_path / "out0").read_text() == "mine"


def test_a_path_of_prompts_is_never_taken_for_a_prompt(tmp_path):
    make_pipe(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for path, expected in (
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path, "is a folder, a file is expected"),
        (tmp_path / "link", "no such file"),
        (Path("/dev/zero"), "is not a regular file"),
    ):
        with pytest.raises(UserError, match=expected):
            read_prompts(str(path), "plain")
    reading, writing = os.pipe()
    os.write(writing, b"add\n")
    os.close(writing)
    try:
        prompts, from_file = read_prompts(f"/dev/fd/{reading}", "plain")
    finally:
        os.close(reading)
    assert from_file and [prompt.text for prompt in prompts] == ["add"]
    assert not read_prompts("a" * 5000, "plain")[1]
