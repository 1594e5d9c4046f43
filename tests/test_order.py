"""The patterns of `order` name tests that exist: one of a test that was renamed would make nothing long."""

from __future__ import annotations

from pathlib import Path

import pytest
from order import FIRST, FURTHER_CASES, WHOLE_RUNS, is_further_case, is_long, unit

TESTS = Path(__file__).parent


@pytest.mark.parametrize("pattern", [*FURTHER_CASES, *WHOLE_RUNS])
def test_a_pattern_names_a_test(pattern):
    place, _, name = pattern.partition("::")
    function = name.partition("[")[0].partition("*")[0]
    files = list(TESTS.glob(place))
    assert files and any(f"def {function}" in file.read_text(encoding="utf-8") for file in files)
    assert "::" not in name and "/" not in name, "a comma is missing"


def test_files_that_start_first_exist():
    assert [name for name in FIRST if not (TESTS / name).is_file()] == []


def test_brackets_are_no_wildcards_and_further_cases_are_apart():
    case = "models/test_loss.py::test_loss_and_gradients_equal_pytorch_whatever_the_chunks"
    assert is_long(f"{case}[53]") and not is_long(f"{case}[5]") and not is_long(f"{case}[371]")
    assert is_further_case(f"{case}[53]") and unit(f"{case}[53]") != unit(f"{case}[371]") == "models/test_loss.py"
    assert unit("interop/test_config.py::test_a") == unit("interop/test_upstream.py::test_b")
