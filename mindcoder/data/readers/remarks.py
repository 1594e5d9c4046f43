"""Reports unused content of records: counted per file and logged once, never dropped silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from mindcoder.data.readers.record import AnyRecord, BadRecord


class Remarks:
    """Counts of unread fields and of dropped content, per file."""

    def __init__(self) -> None:
        self._unread: dict[str, Counter[str]] = {}
        self._left_out: dict[str, Counter[str]] = {}
        self.empty: list[str] = []

    def watch(self, records: Iterable[AnyRecord | BadRecord]) -> Iterator[AnyRecord | BadRecord]:
        """Pass records of one or more files through while counting."""
        for record in records:
            self.see(record)
            yield record

    def see(self, record: AnyRecord | BadRecord) -> str:
        """Count one record; returns a line if it is the first of its file with something unused."""
        if isinstance(record, BadRecord):
            return ""
        found = []
        if record.unread:
            counts = self._unread.setdefault(record.file, Counter())
            new = [name for name in record.unread if name not in counts]
            counts.update(record.unread)
            if new:
                found.append(f"nothing reads {'field' if len(new) == 1 else 'fields'} {', '.join(new)}")
        if record.remark:
            counts = self._left_out.setdefault(record.file, Counter())
            if record.remark not in counts:
                found.append(record.remark)
            counts[record.remark] += 1
        return f"{record.file}: {'; '.join(found)}" if found else ""

    def lines(self) -> list[str]:
        """One line per file and kind."""
        unread = [
            f"{file}: nothing reads "
            + ", ".join(f"{name} ({count} record{'s' * (count > 1)})" for name, count in counts.most_common())
            for file, counts in self._unread.items()
        ]
        left_out = [
            f"{file}: {remark} ({count} record{'s' * (count > 1)})"
            for file, counts in self._left_out.items()
            for remark, count in counts.items()
        ]
        return [*unread, *left_out, *(f"{file}: holds no record" for file in self.empty)]
