"""Rows of MindRecord files, with a one-line error for whatever MindSpore finds wrong with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mindcoder.backend.device import signals_held
from mindcoder.errors import UserError, single_line


@contextlib.contextmanager
def readable(location: str) -> Iterator[None]:
    """Turn MindSpore's errors about damaged files into a `UserError` that names ``location``."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, OSError) as error:  # all of these are raised for unreadable files
        raise UserError(f"is not a readable MindRecord: {_reason(error)}", location) from None


def count_rows(files: Sequence[str], location: str) -> int:
    """Total number of rows of all files.

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
    """Rows in file order, or in the sampler's order; one pass.

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
    """MindSpore's message after ``[ERROR]``, else its first meaningful line."""
    lines = [line.strip().lstrip("-# ").strip() for line in str(error).splitlines()]
    marked = [line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]")]
    told = [*marked, *(line for line in lines if line), type(error).__name__]
    return single_line(told[0], 300)
