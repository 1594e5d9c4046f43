"""Rows of MindRecord files, with one line for whatever MindSpore finds wrong with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mindcoder.backend.device import signals_held
from mindcoder.errors import UserError, single_line


@contextlib.contextmanager
def readable(location: str) -> Iterator[None]:
    """MindSpore's errors about damaged files, as a `UserError` that names ``location``."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, OSError) as error:  # it raises all of these for files it cannot read
        raise UserError(f"is no readable MindRecord: {_reason(error)}", location) from None


def count_rows(files: Sequence[str], location: str) -> int:
    """Rows of all files together.

    Raises:
        UserError: they cannot be read.
    """
    with signals_held():
        import mindspore.dataset as ds

    with readable(location):
        return int(ds.MindDataset(list(files), num_parallel_workers=1, shuffle=False).get_dataset_size())


def stored_rows(
    files: Sequence[str], location: str, columns: list[str] | None = None, sampler: Any = None
) -> Iterator[dict[str, np.ndarray]]:
    """Rows in the files' order, or in the sampler's; one pass.

    Raises:
        UserError: they cannot be read.
    """
    with signals_held():
        import mindspore.dataset as ds

    order = {"shuffle": False} if sampler is None else {"sampler": sampler}
    with readable(location):
        dataset = ds.MindDataset(list(files), columns_list=columns, num_parallel_workers=1, **order)
        yield from dataset.create_dict_iterator(num_epochs=1, output_numpy=True)


def _reason(error: Exception) -> str:
    """What MindSpore says after ``[ERROR]``, else its first line that says something."""
    lines = [line.strip().lstrip("-# ").strip() for line in str(error).splitlines()]
    marked = [line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]")]
    told = [*marked, *(line for line in lines if line), type(error).__name__]
    return single_line(told[0], 300)
