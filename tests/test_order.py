"""The patterns of `order` name tests that exist: one of a test that was renamed would make nothing long."""

from __future__ import annotations

from pathlib import Path

from order import FIRST, FURTHER_CASES, WHOLE_RUNS, is_further_case, is_long, unit

TESTS = Path(__file__).parent


def names_a_test(pattern: str) -> bool:
    """Whether a file has a function that begins as the pattern does; two patterns without a comma name none."""
    place, _, name = pattern.partition("::")
    function = name.partition("[")[0].partition("*")[0]
    sources = (file.read_text(encoding="utf-8") for file in TESTS.glob(place))
    return "::" not in name and any(f"def {function}" in source for source in sources)


def test_every_pattern_names_a_test():
    assert [pattern for pattern in (*FURTHER_CASES, *WHOLE_RUNS) if not names_a_test(pattern)] == []


def test_files_that_start_first_exist():
    assert [name for name in FIRST if not (TESTS / name).is_file()] == []


def test_brackets_are_no_wildcards_and_further_cases_are_apart():
    case = "models/test_loss.py::test_loss_and_gradients_equal_pytorch_whatever_the_chunks"
    assert is_long(f"{case}[53]") and not is_long(f"{case}[5]") and not is_long(f"{case}[371]")
    assert is_further_case(f"{case}[53]") and unit(f"{case}[53]") != unit(f"{case}[371]") == "models/test_loss.py"
    assert unit("interop/test_config.py::test_a") == unit("interop/test_upstream.py::test_b")
