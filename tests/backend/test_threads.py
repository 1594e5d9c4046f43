"""The number of CPU threads: bounded, and refused in one line where it is none."""

from __future__ import annotations

import pytest

import mindcoder
from mindcoder.backend.device import setup_device
from mindcoder.backend.threads import VARIABLE, check_thread_variable, largest_thread_count
from mindcoder.doctor.host import Host
from mindcoder.doctor.machine import cores_row
from mindcoder.errors import UserError

WRONG = ["0", "-1", "abc", "1000000", pytest.param("1" * 5000, id="long"), "2.5", " "]


@pytest.mark.parametrize("text", WRONG)
def test_the_variable_is_refused_by_name(text, monkeypatch):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UserError, match=f"{VARIABLE}: expected a whole number of threads from 1 to") as error:
        setup_device("CPU")
    assert len(str(error.value)) < 200
    row = cores_row(Host(environment={VARIABLE: text}))
    assert row.status == "problem" and VARIABLE in row.found


def test_numbers_within_bounds_and_no_number_are_taken():
    for text in ("", "1", " 2", str(largest_thread_count())):
        check_thread_variable({VARIABLE: text})
    check_thread_variable({})


@pytest.mark.parametrize("count", [0, 10**6, pytest.param(10**5000, id="long"), True, 1.5, "2"])
def test_so_is_the_argument(count, tmp_path):
    with pytest.raises(UserError, match="threads: expected a whole number"):
        mindcoder.load(tmp_path, threads=count, device="CPU")
