"""Cards, driver and CANN, on hosts made of folders."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ascend_host import ascend_host, program, smi_program, write

from mindcoder.doctor import ascend

CANN = "usr/local/Ascend/cann"


def parts(host, root: Path):
    return ascend.cann_parts_row(host, [str(root / CANN / "python")])


def test_a_host_as_it_should_be(tmp_path):
    host = ascend_host(tmp_path)
    rows = [ascend.cards_row(host), ascend.driver_row(host), ascend.smi_row(host), ascend.cann_row(host)]
    rows.append(parts(host, tmp_path))
    assert [row.status for row in rows] == ["ok"] * 5, rows
    assert [row.found for row in rows[:3]] == ["2 (/dev/davinci0 to davinci1)", "26.0.rc1", "2 x 910B3, health OK"]
    assert rows[3].found == f"9.0.0 in {tmp_path / CANN}"


def test_without_cards(tmp_path):
    host = ascend_host(tmp_path, cards=0)
    assert ascend.cards_row(host).status == "problem"
    assert "--device /dev/davinci0" in ascend.cards_row(host).advice
    assert ascend.cards_row(replace(host, on_ascend=False)).status == "ok"


def test_a_container_without_a_node(tmp_path):
    host = ascend_host(tmp_path)
    (tmp_path / "dev/hisi_hdc").unlink()
    assert ascend.cards_row(host).line().startswith("problem  Ascend cards")
    assert "2 (/dev/davinci0 to davinci1), without /dev/hisi_hdc" in ascend.cards_row(host).found


def test_a_card_that_may_not_be_opened(tmp_path, monkeypatch):
    """The system's answer is made up: root may open everything."""
    monkeypatch.setattr(ascend.os, "access", lambda path, mode: path.name != "davinci1")
    assert "may not be opened: /dev/davinci1" in ascend.cards_row(ascend_host(tmp_path)).found


@pytest.mark.parametrize("shown, status", [("1", "note"), ("", "problem"), ("0,1", "ok")])
def test_hidden_cards(shown, status, tmp_path):
    assert ascend.cards_row(ascend_host(tmp_path, ASCEND_RT_VISIBLE_DEVICES=shown)).status == status


@pytest.mark.parametrize(
    "content, status, found",
    [
        ("Version=26.0.RC1\n", "ok", "26.0.RC1"),
        ("Version=25.3.rc1\n", "note", "25.3.rc1, expected 26.0.RC1"),
        ("package_version=25.5.0\nVersion=26.0.RC1\n", "note", "25.5.0, expected"),
        ("", "note", "names no version"),
        (b"\xff\xfe\x00Version", "note", "names no version"),
        (b"Version=" + b"9" * 200_000, "note", "is longer than 64 KiB"),
    ],
)
def test_drivers(content, status, found, tmp_path):
    host = ascend_host(tmp_path)
    write(tmp_path / "usr/local/Ascend/driver/version.info", content)
    row = ascend.driver_row(host)
    assert row.status == status and found in row.found and len(row.line()) < 600


def test_no_driver_and_a_pipe_in_its_place(tmp_path):
    host = ascend_host(tmp_path)
    file = tmp_path / "usr/local/Ascend/driver/version.info"
    file.unlink()
    assert ascend.driver_row(host).status == "problem"
    os.mkfifo(file)
    assert "is not a regular file" in ascend.driver_row(host).found


@pytest.mark.parametrize(
    "version, status",
    [("9.0.0", "ok"), ("9.0.RC1", "note"), ("8.5.0", "note"), ("8.1.RC1", "problem"), ("90.0", "problem")],
)
def test_versions_of_cann(version, status, tmp_path):
    host = ascend_host(tmp_path)
    write(tmp_path / CANN / "compiler/version.info", f"Version={version}\n")
    row = ascend.cann_row(host)
    assert row.status == status and version in row.found
    assert status == "ok" or "expected 9.0.0" in row.found


def test_the_version_in_the_toolkits_own_file(tmp_path):
    host = ascend_host(tmp_path)
    (tmp_path / CANN / "compiler/version.info").unlink()
    assert ascend.cann_row(host).status == "note"
    write(
        tmp_path / CANN / "aarch64-linux/ascend_toolkit_install.info", "package_name=x\nversion=9.0.0\narch=aarch64\n"
    )
    assert ascend.cann_row(host).status == "ok"


def test_cann_that_was_not_set_up_is_found(tmp_path):
    host = ascend_host(tmp_path)
    bare = replace(host, environment={"HOME": str(tmp_path)})
    row = ascend.cann_row(bare)
    assert row.status == "problem" and row.advice == f"source {tmp_path / CANN}/set_env.sh"
    shutil.rmtree(tmp_path / CANN)
    assert ascend.cann_row(bare).found == "none (no ASCEND_HOME_PATH)"
    assert "which is not a folder" in ascend.cann_row(host).found


def test_a_hostile_version_of_cann(tmp_path):
    host = ascend_host(tmp_path)
    write(tmp_path / CANN / "compiler/version.info", "Version=9.0\x1b[2J\x07;rm\n")
    line = ascend.cann_row(host).line()
    assert "\x1b" not in line and "\n" not in line


def test_parts_that_set_env_would_give(tmp_path):
    host = ascend_host(tmp_path)
    shutil.rmtree(tmp_path / CANN / "python/te")
    (tmp_path / CANN / "lib64/libge_runner.so").unlink()
    found = parts(replace(host, environment=dict(host.environment) | {"ASCEND_OPP_PATH": "nowhere"}), tmp_path).found
    assert found == (
        "not found: libge_runner.so (LD_LIBRARY_PATH), Python's te (PYTHONPATH), operators (ASCEND_OPP_PATH)"
    )


def test_npu_smi_that_is_ill_absent_or_says_nothing_of_use(tmp_path):
    host = ascend_host(tmp_path)
    smi_program(tmp_path / "bin", "Alarm")
    assert ascend.smi_row(host).found == "910B3 is Alarm"
    program(tmp_path / "bin", "npu-smi", "echo 'dcmi module initialize failed. ret is -8005'; exit 161")
    assert ascend.smi_row(host).found == "exit code 161: dcmi module initialize failed. ret is -8005"
    program(tmp_path / "bin", "npu-smi", "head -c 3000000 /dev/zero")
    assert ascend.smi_row(host).found == "lists no card that is understood"
    (tmp_path / "bin/npu-smi").unlink()
    assert ascend.smi_row(host).status == "note"


def test_npu_smi_that_hangs_is_ended_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(ascend, "SMI_SECONDS", 1.0)
    host = ascend_host(tmp_path)
    program(tmp_path / "bin", "npu-smi", f"sleep 1000 & echo $! > {tmp_path / 'child'}; trap '' TERM; wait")
    begin = time.monotonic()
    row = ascend.smi_row(host)
    assert row.status == "problem" and row.found == "gave no answer within 1 s"
    assert time.monotonic() - begin < 10
    child = int((tmp_path / "child").read_text())
    time.sleep(0.2)
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
