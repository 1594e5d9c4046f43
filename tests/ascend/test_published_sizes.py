"""The published sizes on MindSpore's Ascend backend: no old kernels, and the plan's memory is MindSpore's."""

from __future__ import annotations

import pytest
from published_sizes import QUICK, SLOW, Case, measure

pytestmark = pytest.mark.long


def check(case: Case, place) -> None:
    found = measure(case, place)
    assert found.kernels["opapi_kernel"] > 100
    assert found.old == set()
    assert found.planned == pytest.approx(found.peak, rel=0.1), f"plan {found.planned}, MindSpore {found.peak}"


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_a_rank_takes_the_memory_of_the_plan(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=lambda case: case.name)
def test_every_published_size_takes_the_memory_of_the_plan(case, tmp_path):
    check(case, tmp_path)
