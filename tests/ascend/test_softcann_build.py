"""How softcann is built: only for its MindSpore, only where it may write, again only what changed."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from softcann import build as building
from softcann import wheel
from softcann.generate import source
from softcann.names import UNRELEASED

builds = pytest.mark.long  # which takes minutes, where it is the first time
REPOSITORY = Path(__file__).resolve().parents[2]


def test_another_mindspore_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.10.0")
    assert building.main() == 2
    assert capsys.readouterr().err.startswith("softcann: found mindspore 2.10.0; expected 2.9.0")


@builds
def test_all_that_mindspore_needs_is_there() -> None:
    home = building.build()
    wanted = building.needs_of_wheel(wheel.mindspore_folder())
    exported = wheel.symbols(building.LIBRARIES / "libascendcl.so", defined=True)
    entries = {name + end for name in wanted.operators for end in ("", "GetWorkspaceSize")}
    assert wanted.undefined | wanted.looked_up | entries <= exported
    assert {path.name for path in (home / "lib64").iterdir()} == wanted.libraries
    assert set(UNRELEASED) <= wanted.operators
    assert len(wanted.operators) > 400


@builds
def test_a_second_build_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    building.build()
    monkeypatch.setattr(building, "run", lambda command: pytest.fail(f"ran {command}"))
    building.build()


@builds
def test_a_copied_folder_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    building.build()
    copy = tmp_path / "softcann"
    shutil.copytree(building.ROOT, copy)
    for name, path in {"ROOT": copy, "BUILD": copy / "build", "HOME": copy / "build/Ascend/latest"}.items():
        monkeypatch.setattr(building, name, path)
    monkeypatch.setattr(building, "LIBRARIES", building.HOME / "lib64")
    monkeypatch.setattr(building, "run", lambda command: pytest.fail(f"ran {command}"))
    assert building.build() == copy / "build/Ascend/latest"


@builds
def test_two_processes_build_at_once_and_one_compiles(tmp_path: Path) -> None:
    """Of two builds of one folder the second waits for the first, and finds its objects."""
    copy = tmp_path / "softcann"
    shutil.copytree(building.ROOT, copy)
    (copy / "build/objects/runtime/device.o").unlink()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "softcann.build"]
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(errors.count("compiled") for _, errors in said) == [0, 1]
    assert all(output.strip() == str(copy / "build/Ascend/latest") for output, _ in said)


@builds
def test_a_build_that_was_interrupted_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of the build folder is half written is made again."""
    building.build()
    copy = tmp_path / "softcann"
    shutil.copytree(building.ROOT, copy)
    objects = copy / "build/objects/runtime"
    (objects / "device.o").write_bytes(b"half")
    (objects / "device.stamp").unlink()
    shutil.rmtree(copy / "build/Ascend/latest/lib64")
    (copy / "build/linked").unlink()
    (copy / "build/needs.json").write_text('{"state": "')
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "softcann.build"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "compiled device.cc" in done.stderr and done.stderr.count("compiled") == 1
    libraries = copy / "build/Ascend/latest/lib64"
    assert {path.name for path in libraries.iterdir()} == {path.name for path in building.LIBRARIES.iterdir()}


def test_a_change_compiles_only_what_depends_on_it(tmp_path: Path) -> None:
    """Of two sources, each with a header of its own beside one that both have, through a precompiled one in one."""
    place = tmp_path / "a folder"
    place.mkdir()
    for name, text in {
        "common.h": "inline int common() { return 1; }",
        "parsed.h": '#include "common.h"',
        "one.h": "inline int one() { return 1; }",
        "two.h": "inline int two() { return 2; }",
        "one.cc": '#include "one.h"\nint first() { return one() + common(); }',
        "two.cc": '#include "common.h"\n#include "two.h"\nint second() { return two() + common(); }',
    }.items():
        (place / name).write_text(text)
    command, header = ["g++", "-O1"], place / "parsed/parsed.h"

    def compiled() -> list[bool]:
        building.write_if_other(header, '#include "../parsed.h"\n')
        parsed = header.with_suffix(".h.gch")
        again = building.compile_one([*command, "-x", "c++-header"], header, parsed)
        first = [*command, "-include", str(header)]
        jobs = [(first, "one", parsed), (command, "two", None)]
        return [again, *(building.compile_one(c, place / f"{n}.cc", place / f"{n}.o", h) for c, n, h in jobs)]

    assert compiled() == [True, True, True]
    assert compiled() == [False, False, False]
    (place / "two.h").write_text("inline int two() { return 3; }")
    assert compiled() == [False, False, True]
    (place / "one.cc").write_text('#include "one.h"\nint first() { return one() - common(); }')
    assert compiled() == [False, True, False]
    (place / "common.h").write_text("inline int common() { return 2; }")
    assert compiled() == [True, True, True]
    (place / "one.o").unlink()
    command.append("-w")
    assert compiled() == [True, True, True]
    assert compiled() == [False, False, False]
    with pytest.raises(wheel.BuildError):
        (place / "one.h").unlink()
        compiled()


@builds
def test_a_changed_operator_compiles_its_file_alone() -> None:
    building.build()
    header = building.ROOT / "operators/attention.h"
    rules = sorted((building.BUILD / "objects").glob("*/*.d"))
    users = [rule.stem for rule in rules if header in building.read_dependencies(rule.read_text())]
    assert users == ["attention", "attention_inference", "attention_training"]
    own = [building.read_dependencies(rule.read_text())[0].name for rule in rules]
    assert own == [rule.stem + ".cc" for rule in rules]


@builds
def test_a_build_writes_only_below_its_folder() -> None:
    building.build()
    listing = ["git", "status", "--porcelain", "--untracked-files=all", "softcann"]
    untracked = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True)
    if untracked.returncode != 0:
        pytest.skip("not a git checkout")
    assert [line for line in untracked.stdout.splitlines() if line.endswith((".o", ".so", ".json", "missing.c"))] == []


def test_an_error_of_the_compiler_is_shown(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cc"
    broken.write_text("int f( {")
    with pytest.raises(wheel.BuildError, match=r"broken\.cc:1:\d+: error"):
        building.compile_one(["g++"], broken, tmp_path / "broken.o")


def test_missing_functions_are_generated_weak() -> None:
    text = source({"rtKernelLaunch", "_ZN2ge5ShapeC1Ev"}, {"aclrtLater", "MsprofInit"}, {"aclnnNone"})
    assert 'WEAK long rtKernelLaunch(void) { return softcann_missing_function("rtKernelLaunch"); }' in text
    assert "WEAK void _ZN2ge5ShapeC1Ev(void *self) { memset(self, 0, 16); }" in text
    assert "WEAK long MsprofInit(void) { return 0; }" in text
    assert "aclnnNoneGetWorkspaceSize(void)" in text


@builds
def test_a_build_says_what_it_compiles_and_which_function_has_no_row(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    building.build()
    (building.BUILD / "objects/aclop/movements.stamp").unlink()
    monkeypatch.setattr(building, "defined", lambda: {"aclnnAdd", "aclnnNobody"})
    assert building.main() == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("compiled movements.cc (") and first.endswith(" files)")
    assert second == "softcann: aclnnNobody has no row in softcann/operators/constraints.cc: its calls fail"
