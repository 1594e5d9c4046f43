"""Random access to records of JSON and JSONL files, without keeping their texts in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindcoder.data.readers import AnyRecord, BadRecord, Reading, expand_glob, form_of, read_line, read_records
from mindcoder.data.readers.files import LINE_LIMIT, decoded
from mindcoder.errors import UserError


class LineFile:
    """A JSONL file: one pass records the line offsets (16 bytes per record).

    Raises:
        UserError: a line is too long, or a field that ``reading`` names never occurs.
    """

    def __init__(self, file: Path, reading: Reading = Reading()) -> None:
        self._file, self._stream, self._reading = file, open(file, "rb"), reading
        missing = {f'"{column}"'.encode(): column for _, column in reading.columns}
        offsets, numbers, at, number = [], [], 0, 0
        while line := self._stream.readline(LINE_LIMIT + 1):
            number += 1
            if len(line) > LINE_LIMIT:
                raise UserError(
                    f"a line of more than {LINE_LIMIT >> 20} MiB: expected one record per line", file, number
                )
            if line.strip(b" \t\r\n\xef\xbb\xbf"):
                offsets.append(at)
                numbers.append(number)
                missing = {name: column for name, column in missing.items() if name not in line}
            at += len(line)
        if missing and offsets:
            raise UserError(f"columns: no record has a field {', '.join(map(repr, missing.values()))}", file)
        self._offsets, self._numbers = np.array(offsets, np.int64), np.array(numbers, np.int64)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> AnyRecord | BadRecord:
        """Record ``index``, read on demand."""
        number = int(self._numbers[index])
        self._stream.seek(self._offsets[index])
        line = decoded(self._file, index, number, self._stream.readline())
        return line if isinstance(line, BadRecord) else read_line(self._file, index, number, line, self._reading)


class RecordIndex:
    """Records of several files, numbered consecutively. JSON arrays are read whole: there is no other way.

    Raises:
        UserError: a file is missing, empty, or not JSON.
    """

    def __init__(self, locations: Sequence[str], reading: Reading = Reading()) -> None:
        self._files: list[LineFile | list[AnyRecord | BadRecord]] = []
        for location in locations:
            (file,) = expand_glob(Path(location))
            is_lines = form_of(file) == "lines"
            records = LineFile(file, reading) if is_lines else list(read_records(file, reading))
            if len(records) == 0:
                raise UserError("holds no record", location)
            self._files.append(records)
        self.sizes = [len(records) for records in self._files]
        self._ends = np.cumsum(self.sizes)

    def __getitem__(self, number: int) -> AnyRecord | BadRecord:
        file = int(np.searchsorted(self._ends, number, side="right"))
        return self._files[file][number - int(self._ends[file]) + self.sizes[file]]
