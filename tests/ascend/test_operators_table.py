"""The table of documented constraints has a row for each operator, and the documentation has the table."""

from pathlib import Path

import pytest

from softcann.names import UNRELEASED
from softcann.operator_table import HEADS, defined, movements, page, rows

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_each_operator_has_a_row_and_each_row_an_operator():
    assert {row.function for row in rows()} == defined()
    assert len(rows()) == len({row.function for row in rows()})


@pytest.mark.parametrize("name", HEADS)
def test_the_page_is_the_table(name):
    assert (DOCS / name).read_text(encoding="utf-8") == page(name), "run python -m softcann.operator_table"


def test_the_page_says_why_names_are_missing_and_what_is_left_of_aclop():
    assert set(movements()) == {"Assign", "TensorMove", "Identity", "StridedSlice"}
    text = (DOCS / "ascend_operators.md").read_text(encoding="utf-8")
    assert all(f"| {name} | {reason} |" in text for name, reason in (UNRELEASED | movements()).items())
