"""Readers of records from JSON and JSONL files, one file per family of layouts; and of plain code files."""

from mindcoder.data.readers.files import Form, expand_glob, form_of, read_records
from mindcoder.data.readers.layouts import FORMATS, LAYOUTS, read_line
from mindcoder.data.readers.reading import Reading, parse_columns
from mindcoder.data.readers.record import AnyRecord, BadRecord, Conversation, Document, Pair, Record
from mindcoder.data.readers.remarks import Remarks

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "AnyRecord",
    "BadRecord",
    "Conversation",
    "Document",
    "Form",
    "Pair",
    "Reading",
    "Record",
    "Remarks",
    "expand_glob",
    "form_of",
    "parse_columns",
    "read_line",
    "read_records",
]
