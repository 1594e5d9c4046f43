"""Text files given in place of a dataset: tokenized once, stored with the run, and reused."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcoder.data.infill import InfillOptions
from mindcoder.data.mindrecord_file import find_dataset
from mindcoder.data.preprocess import PreprocessOptions, preprocess
from mindcoder.data.prompt import OWN
from mindcoder.data.readers import Reading, expand_glob
from mindcoder.errors import UserError
from mindcoder.tokenizer import CodeTokenizer

SUFFIXES = (".json", ".jsonl")
POLL_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextOptions:
    """Options for turning text files into rows; as in `PreprocessOptions`."""

    seq_length: int
    template: str
    pairs: bool = False
    infill: InfillOptions = InfillOptions()
    reading: Reading = Reading()


def is_text(location: str) -> bool:
    """Whether the location of a dataset is a file of records rather than MindRecord."""
    return location.endswith(SUFFIXES)


def prepare_texts(
    locations: Sequence[str], tokenizer: CodeTokenizer | None, options: TextOptions, folder: Path, is_first: bool
) -> list[str]:
    """The locations with text files replaced by packed MindRecord files in ``folder``.

    Args:
        is_first: this process creates them; the others wait for it.

    Raises:
        UserError: no tokenizer, or a record is invalid.
    """
    return [_prepare(item, tokenizer, options, folder, is_first) if is_text(item) else item for item in locations]


def _prepare(location: str, tokenizer: CodeTokenizer | None, options: TextOptions, folder: Path, is_first: bool) -> str:
    if tokenizer is None:
        raise UserError("text needs a tokenizer: --vocab_file, or one beside --load_checkpoint", location)
    file = Path(location)
    expand_glob(file)  # refuses anything but files
    with open(file, "rb") as stream:  # hashed by content: times and inodes differ from host to host
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    told: tuple[object, ...] = (str(file.resolve()), content, options, tokenizer.backend.to_str())
    if options.template == OWN and tokenizer.chat_template is not None:
        told += (tokenizer.chat_template.digest,)
    key = hashlib.sha256(repr(told).encode()).hexdigest()[:12]
    target = folder / f"{file.stem}-{key}.mindrecord"
    if not _is_whole(target):
        if is_first:
            log.info("tokenizing %s", location)
            asked = PreprocessOptions(
                location,
                target,
                options.seq_length,
                not options.pairs,
                template=options.template,
                infill=options.infill,
                pairs=options.pairs,
                reading=options.reading,
                overwrite=True,  # an existing file is incomplete
            )
            _, statistics = preprocess(asked, tokenizer)
            log.info("%s", "; ".join(statistics.lines()))
            for line in statistics.remarks.lines():
                log.warning("%s", line)
        while not _is_whole(target):  # the launcher ends us if the first process fails
            time.sleep(POLL_SECONDS)
    return str(target)


def _is_whole(target: Path) -> bool:
    try:
        find_dataset(str(target))
    except UserError:
        return False
    return True
