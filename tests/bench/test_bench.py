"""The performance test and its PyTorch reference."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mindcoder.bench.cases import Case, Row, original_pairs, parse_cases, write_table
from mindcoder.cli.main import main
from mindcoder.errors import UserError

COLUMNS = [
    "batch", "input_length", "output_length", "first_token_ms", "next_token_ms", "tokens_per_second", "memory_mb",
]  # fmt: skip


def read(file):
    with open(file) as stream:
        return list(csv.DictReader(stream))


def test_bench_and_its_reference_write_the_same_columns(served_folder, tmp_path, capsys):
    flags = ["--pairs", "[[16,8],[32,4]]", "--batch", "1,3"]
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    assert main(["bench", str(served_folder), *flags, "--output_file", str(ours)]) == 0
    assert "tokens/s" in capsys.readouterr().out
    script = REPOSITORY / "research" / "wizardcoder" / "inference_wizardcoder_pytorch.py"
    command = [sys.executable, str(script), str(served_folder), *flags, "--output_file", str(theirs)]
    subprocess.run(command, check=True, capture_output=True)
    for file in (ours, theirs):
        rows = read(file)
        assert list(rows[0]) == COLUMNS
        assert [(row["batch"], row["input_length"], row["output_length"]) for row in rows] == [
            ("1", "16", "8"), ("1", "32", "4"), ("3", "16", "8"), ("3", "32", "4"),
        ]  # fmt: skip
        assert all(float(value) > 0 for row in rows for value in row.values())
        assert file.with_suffix(".png").stat().st_size > 1000


def test_the_reference_takes_the_original_flags(served_folder, tmp_path):
    """mindspore-lab/mindformers r1.0, research/wizardcoder/inference_wizardcoder_pytorch.py."""
    script = REPOSITORY / "research" / "wizardcoder" / "inference_wizardcoder_pytorch.py"
    command = [sys.executable, str(script), "--base_model", str(served_folder), "--batch_size", "2"]
    done = subprocess.run([*command, "--seq_length", "64"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = read(tmp_path / "output" / "bench.csv")
    assert row["batch"] == "2" and int(row["input_length"]) + int(row["output_length"]) == 64
    assert f"generated: {2 * int(row['output_length'])} tokens" in done.stdout
    short = subprocess.run([*command, "--seq_length", "2"], capture_output=True, text=True, cwd=tmp_path)
    assert short.returncode == 2 and "expected more than the prompt's" in short.stderr


@pytest.mark.parametrize("lengths, bars", [([64], 2), ([64, 128], 0)])
def test_a_single_point_is_drawn_as_a_bar(lengths, bars, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    rows = [Row(batch, length, 32, 5.0, 1.0, 900.0, 500.0) for batch in (1, 8) for length in lengths]
    write_table(rows, tmp_path / "bench.csv")
    for axis in drawn[0].axes:
        assert len(axis.patches) == bars and len(axis.lines) == (0 if bars else 2)


def test_cases():
    assert parse_cases(None, None, "1") == [Case(1, 256, 256)]
    grid = parse_cases(None, "5,11", "4")
    assert len(grid) == 36 and grid[0] == Case(4, 32, 32) and grid[-1] == Case(4, 1024, 1024)
    for pairs, sizes, batches in (("[[1]]", None, "1"), ("x", None, "1"), (None, "5", "1"), (None, None, "1,x"),
                                  ("[[0,4]]", None, "1"), (None, "5,5", "1"), (None, None, "0")):  # fmt: skip
        with pytest.raises(UserError, match="expected"):
            parse_cases(pairs, sizes, batches)


def test_cases_of_the_original_starcoder_script():
    ranges, pairs = ([5, 11], [5, 11]), ([256, 256, 512, 1024], [64, 256, 512, 1024])
    assert original_pairs(0, 0, 128, 64, *ranges, *pairs) == [[128, 64]]
    assert original_pairs(1, 1, 128, 128, *ranges, *pairs) == [[256, 64], [256, 256], [512, 512], [1024, 1024]]
    every = original_pairs(1, 0, 128, 128, *ranges, *pairs)
    assert len(every) == 36 and every[0] == [32, 32] and every[-1] == [1024, 1024]
