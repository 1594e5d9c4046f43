"""Locks of output folders and temporaries of killed processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mindcoder.errors import UserError
from mindcoder.files import replacing, staging_directory, write_text
from mindcoder.folder_lock import LOCK_FILE, folder_lock
from mindcoder.temporary import clear_abandoned

HOLD = """
import sys, time
from pathlib import Path
from mindcoder.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
STAGE = """
import sys, time
from pathlib import Path
from mindcoder.files import replacing, staging_directory
with staging_directory(Path(sys.argv[1])) as staging, replacing(Path(sys.argv[2])) as stream:
    (staging / "half").write_text("x")
    print("held", flush=True)
    time.sleep(60)
"""


def started(program: str, *arguments: object) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def killed(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def test_a_folder_has_one_writer_and_a_dead_one_frees_it(tmp_path, caplog):
    holder = started(HOLD, tmp_path)
    said = json.loads((tmp_path / LOCK_FILE).read_text())
    assert said["pid"] == holder.pid and said["host"] == socket.gethostname() and said["started"]
    with pytest.raises(UserError) as error, folder_lock(tmp_path):
        pass
    assert str(error.value).count("\n") == 0
    assert f"{tmp_path}: is in use by process {holder.pid} on {socket.gethostname()} since" in str(error.value)
    assert (tmp_path / LOCK_FILE).is_file(), "the refused one must not remove the holder's file"
    killed(holder)
    with folder_lock(tmp_path):
        assert f"was left by process {holder.pid}" in caplog.text
        with pytest.raises(UserError, match=f"is in use by process {os.getpid()} "), folder_lock(tmp_path):
            pass
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"[" * 4000, b"null"])
def test_whatever_stands_in_a_lock_file_that_nobody_holds(content, tmp_path):
    (tmp_path / LOCK_FILE).write_bytes(content)
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_without_locks_on_the_file_system_the_text_decides(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("mindcoder.folder_lock.fcntl.flock", unsupported)
    (tmp_path / LOCK_FILE).write_text(json.dumps({"pid": 7, "host": "elsewhere", "started": "today"}))
    with pytest.raises(UserError, match="process 7 on elsewhere since today .* remove run.lock"), folder_lock(tmp_path):
        pass
    (tmp_path / LOCK_FILE).write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    with folder_lock(tmp_path):
        pass


def test_an_output_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out.*: cannot be written"), folder_lock(tmp_path / "out"):
        pass


def test_what_a_killed_writer_left_is_cleared_by_the_next_one_and_a_living_one_is_respected(tmp_path):
    target, file = tmp_path / "model [1]", tmp_path / "notes.txt"
    writer = started(STAGE, target, file)
    assert len(list(tmp_path.glob(".*.tmp-*"))) == 2
    with pytest.raises(UserError, match=f"is being written by process {writer.pid} on "), staging_directory(target):
        pass
    write_text(file, "ours")
    assert len(list(tmp_path.glob(".*.tmp-*"))) == 2, "a living writer's files stay"
    killed(writer)
    with staging_directory(target) as staging:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [staging] and not list(staging.iterdir())
    write_text(file, "again")
    assert list(tmp_path.iterdir()) == [file] and file.read_text() == "again"


def test_old_names_of_temporaries_are_cleared_too(tmp_path):
    (tmp_path / ".x.json.tmp-123").write_text("half")
    (tmp_path / ".y.tmp-4").mkdir()
    (tmp_path / ".z.tmp-4").symlink_to("/nowhere")
    assert clear_abandoned(tmp_path) == [tmp_path / ".z.tmp-4"]
    assert [path.name for path in tmp_path.iterdir()] == [".z.tmp-4"]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    file = tmp_path / "a"
    write_text(file, "old")
    with pytest.raises(RuntimeError), replacing(file) as stream:
        stream.write(b"new")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("mask", [0o027, 0o002])
def test_written_files_have_the_permissions_that_umask_gives(mask, tmp_path):
    program = (
        "import os, sys, numpy as np; os.umask(int(sys.argv[1])); from pathlib import Path\n"
        "from mindcoder.checkpoint.store import save_checkpoint\n"
        "from mindcoder.files import write_text\n"
        "save_checkpoint(Path(sys.argv[2]), {'step': 1}, {'w': np.zeros(2)}, {'m': np.zeros(2)}, 1)\n"
        "write_text(Path(sys.argv[2]) / 'text', 'x')\n"
    )
    subprocess.run([sys.executable, "-c", program, str(mask), str(tmp_path)], check=True)
    files = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}
