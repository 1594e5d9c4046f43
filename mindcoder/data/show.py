"""Shows a dataset: statistics, and samples as the model sees them with the masked part dimmed."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mindcoder.data.encode import IGNORED_LABEL
from mindcoder.data.mindrecord_file import find_dataset
from mindcoder.data.mindrecord_rows import stored_rows
from mindcoder.tokenizer import CodeTokenizer

DIM, PLAIN = "\033[2m", "\033[0m"
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body{{font:14px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
pre{{white-space:pre-wrap;border:1px solid #ccc;border-radius:6px;padding:.8rem}}
.masked{{color:#999}} .learned{{background:#e7f5e7}}
</style><h1>{title}</h1><p>Green is learned, grey is read only.</p>{samples}
"""


@dataclass(frozen=True)
class Span:
    """Text of consecutive tokens that are either all learned or all masked."""

    text: str
    learned: bool


def read_rows(location: str, limit: int | None = None) -> Iterator[dict[str, np.ndarray]]:
    """Rows of a MindRecord dataset in file order.

    Raises:
        UserError: nothing is there, or the dataset is incomplete.
    """
    files, _ = find_dataset(location)
    for number, row in enumerate(stored_rows(files, location)):
        if limit is not None and number == limit:
            return
        yield row


def documents(row: dict[str, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and labels of every document of a row, without padding."""
    ids, labels = row["input_ids"].reshape(-1), row.get("labels", row["input_ids"]).reshape(-1)
    document_ids = row.get("document_ids", np.zeros_like(ids)).reshape(-1)
    for number in range(document_ids.max() + 1):
        inside = document_ids == number
        yield ids[inside], labels[inside]


def spans(ids: np.ndarray, labels: np.ndarray, tokenizer: CodeTokenizer) -> list[Span]:
    """A document's text, split where the loss mask changes."""
    learned = labels != IGNORED_LABEL
    learned[:1] = learned[1:2]  # the first token is never predicted
    cuts = [0, *(np.flatnonzero(np.diff(learned.astype(np.int8))) + 1).tolist(), len(ids)]
    texts = [tokenizer.decode(ids[:end].tolist()) for end in cuts]
    return [
        Span(texts[number + 1][len(texts[number]) :], bool(learned[begin]))
        for number, begin in enumerate(cuts[:-1])
        if begin < len(ids)
    ]


def terminal_text(sample: Sequence[Span], colours: bool) -> str:
    """Terminal output: masked text dimmed, or in brackets ⟦ ⟧ without colors."""
    marks = (DIM, PLAIN) if colours else ("⟦", "⟧")
    return "".join(span.text if span.learned else f"{marks[0]}{span.text}{marks[1]}" for span in sample)


def html_page(title: str, samples: Sequence[Sequence[Span]]) -> str:
    """A self-contained page of samples."""
    blocks = []
    for sample in samples:
        tags = (
            f'<span class="{"learned" if span.learned else "masked"}">{html.escape(span.text)}</span>'
            for span in sample
        )
        blocks.append(f"<pre>{''.join(tags)}</pre>")
    return PAGE.format(title=html.escape(title), samples="\n".join(blocks))


def statistics(location: str) -> list[str]:
    """Statistics of a dataset, as lines.

    Raises:
        UserError: as `read_rows`.
    """
    lengths: list[int] = []
    learned: list[int] = []
    rows = tokens = positions = 0
    for row in read_rows(location):
        rows += 1
        positions += row["input_ids"].size
        for ids, labels in documents(row):
            lengths.append(len(ids))
            learned.append(int((labels != IGNORED_LABEL).sum()))
            tokens += len(ids)
    quantiles = np.quantile(lengths, [0.5, 0.9, 0.99, 1.0]).astype(int) if lengths else [0] * 4
    return [
        f"rows {rows}, documents {len(lengths)} ({len(lengths) / max(rows, 1):.2f} a row)",
        f"tokens {tokens}, learned {sum(learned)} ({sum(learned) / max(tokens, 1):.1%}), "
        f"padding {1 - tokens / max(positions, 1):.1%}",
        "document length: median {}, 90 % {}, 99 % {}, longest {}".format(*quantiles),
    ]
