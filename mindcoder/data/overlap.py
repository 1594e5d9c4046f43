"""Finds near-duplicate records, and records that leak a benchmark's answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mindcoder.data.readers import AnyRecord

WORD, TOKEN = re.compile(r"\w+"), re.compile(r"\w+|[^\w\s]")
SHINGLE, PERMUTATIONS = 5, 128
CONTAMINATED, FEWEST = (
    13,
    6,
)  # consecutive words shared with a problem (Brown et al. 2020, appendix C); all words of a shorter text


@dataclass(frozen=True)
class Finding:
    """A record to drop: which one, and which earlier record or problem it repeats."""

    record: AnyRecord
    of: str


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return WORD.findall(text.lower())


def near_duplicates(records: Iterable[AnyRecord], threshold: float) -> Iterator[AnyRecord | Finding]:
    """Every record, or the finding that it nearly duplicates an earlier one.

    MinHash over five-word shingles with locality-sensitive hashing (as bigcode-dataset does for The Stack), by
    datasketch.

    Args:
        threshold: Jaccard similarity from which two records count as the same.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    exact: dict[tuple[str, ...], str] = {}
    for number, record in enumerate(records):
        found = TOKEN.findall("\n".join(record.texts()).lower())
        origin = f"{record.file} record {record.index}"
        same = exact.setdefault(tuple(found), origin)
        if same != origin:
            yield Finding(record, same)
            continue
        sketch = MinHash(PERMUTATIONS, seed=1)
        runs = {" ".join(found[at : at + SHINGLE]) for at in range(max(len(found) - SHINGLE + 1, 1))}
        sketch.update_batch([run.encode() for run in runs])
        near = index.query(sketch)
        if near:
            yield Finding(record, near[0])
            continue
        index.insert(f"{origin}", sketch, check_duplication=False)
        yield record


def contaminated(records: Iterable[AnyRecord], problems: Sequence[tuple[str, str]]) -> Iterator[AnyRecord | Finding]:
    """Every record, or the finding that it shares `CONTAMINATED` consecutive words (or a whole short text) with a
    problem.

    Args:
        problems: names and texts (prompt, solution) of the benchmark.
    """
    known: dict[tuple[str, ...], str] = {}
    for name, text in problems:
        found = words(text)
        size = min(CONTAMINATED, len(found))
        if size >= FEWEST:
            for at in range(len(found) - size + 1):
                known.setdefault(tuple(found[at : at + size]), name)
    sizes = {len(run) for run in known}
    for record in records:
        found = words("\n".join(record.texts()))
        runs = (tuple(found[at : at + size]) for size in sizes for at in range(len(found) - size + 1))
        shared = next((known[run] for run in runs if run in known), None)
        yield record if shared is None else Finding(record, shared)
