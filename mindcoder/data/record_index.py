"""Records of JSON and JSONL files by their number, without keeping their texts in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindcoder.data.readers import AnyRecord, BadRecord, read_line, read_records
from mindcoder.errors import UserError


class LineFile:
    """A JSONL file: one pass notes where its lines begin (16 bytes a record)."""

    def __init__(self, file: Path) -> None:
        self._file, self._stream = file, open(file, "rb")
        places, numbers, at = [], [], 0
        for number, line in enumerate(self._stream, 1):
            if line.strip():
                places.append(at)
                numbers.append(number)
            at += len(line)
        self._places, self._numbers = np.array(places, np.int64), np.array(numbers, np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> AnyRecord | BadRecord:
        """Record ``index``, read now.

        Raises:
            UserError: it is not UTF-8.
        """
        number = int(self._numbers[index])
        self._stream.seek(self._places[index])
        try:
            line = self._stream.readline().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"is not UTF-8 text: {error.reason}", self._file, number) from None
        return read_line(self._file, index, number, line)


class RecordIndex:
    """Records of several files, numbered through. JSON arrays are read whole: they cannot be read otherwise.

    Raises:
        UserError: a file is missing, empty, or no JSON.
    """

    def __init__(self, locations: Sequence[str]) -> None:
        self._files: list[LineFile | list[AnyRecord | BadRecord]] = []
        for location in locations:
            file = Path(location)
            if not file.is_file():
                raise UserError("no such file", location)
            records = list(read_records(file)) if _is_array(file) else LineFile(file)
            if len(records) == 0:
                raise UserError("holds no record", location)
            self._files.append(records)
        self.sizes = [len(records) for records in self._files]
        self._ends = np.cumsum(self.sizes)

    def __getitem__(self, number: int) -> AnyRecord | BadRecord:
        file = int(np.searchsorted(self._ends, number, side="right"))
        return self._files[file][number - int(self._ends[file]) + self.sizes[file]]


def _is_array(file: Path) -> bool:
    with open(file, encoding="utf-8-sig", errors="replace") as stream:
        while (first := stream.read(1)).isspace():
            pass
    return first == "["
