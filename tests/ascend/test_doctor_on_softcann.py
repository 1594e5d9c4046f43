"""The checks of `mindcoder doctor` that need CANN, on softcann."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindcoder.doctor import ascend, packages
from mindcoder.doctor.host import Host
from softcann.environment import HOME, emulator_environment

pytestmark = pytest.mark.long  # on the emulator, whose build takes minutes


def test_cann_is_found_and_mindspore_computes() -> None:
    host = Host(Path("/"), emulator_environment(), on_ascend=True)
    assert ascend.cann_row(host).line() == f"ok       CANN                9.0.0 in {HOME}"
    assert packages.compute_row(host).found == "adds two tensors"


def test_without_softcanns_libraries_mindspore_says_what_is_missing() -> None:
    environment = emulator_environment() | {"LD_LIBRARY_PATH": ""}
    row = packages.compute_row(Host(Path("/"), environment, on_ascend=True))
    assert row.status == "problem" and "Ascend" in row.found
