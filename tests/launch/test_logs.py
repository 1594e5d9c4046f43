"""Logs of ranks: lost output, and one job per folder."""

from __future__ import annotations

import errno
import os

import pytest

from mindcoder.errors import UserError
from mindcoder.launch import logs
from mindcoder.launch.logs import LogRelay, hold_log_folder


def test_a_log_says_what_is_missing_from_it(tmp_path, monkeypatch, capfd):
    source, target = os.pipe()
    relay = LogRelay(source, tmp_path / "rank_0.log", False, lambda: None)
    write, full = logs.write_all, [True]

    def failing(descriptor, data):
        if full[0] and descriptor == relay.log:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor, data)

    monkeypatch.setattr(logs, "write_all", failing)
    relay._keep(b"first\n")
    relay._keep(b"second\n")
    full[0] = False
    relay._keep(b"third\n")
    assert (tmp_path / "rank_0.log").read_text() == "\n[mindcoder: 13 bytes of output are missing here]\nthird\n"
    assert capfd.readouterr().err.count("No space left on device") == 1
    os.close(target)
    relay.run()


def test_servers_of_one_job_share_a_log_folder(tmp_path):
    with hold_log_folder(tmp_path, [0, 1]), hold_log_folder(tmp_path, [2, 3]):
        refused = pytest.raises(UserError, match=f"rank 3 of another job .* .process {os.getpid()} on ")
        with refused, hold_log_folder(tmp_path, [3, 4]):
            pass
    with hold_log_folder(tmp_path, [3, 4]):
        pass
