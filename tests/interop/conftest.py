"""MindFormers' Trainer changes MindSpore's context for the whole process; other tests want it as it was."""

from __future__ import annotations

import mindspore as ms
import pytest


@pytest.fixture(autouse=True)
def context_as_before():
    """Put the execution mode back."""
    mode = ms.get_context("mode")
    yield
    ms.set_context(mode=mode)
