"""Compares two models over texts; a chunk of logits of each is in memory, never those of all texts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mindcoder.compare.comparison import Comparison
from mindcoder.compare.measures import Measures
from mindcoder.compare.source import ModelSource, described_by, fit, is_adapter, load, open_source
from mindcoder.compare.texts import TextReader, find_texts
from mindcoder.data.text_format import chosen_template
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.generate.model import check_model_tokenizer
from mindcoder.progress import tqdm
from mindcoder.tokenizer import CodeTokenizer, load_tokenizer

log = logging.getLogger(__name__)

DEFAULT_LENGTH = 2048  # of texts, in tokens


@dataclass(frozen=True)
class CompareRequest:
    """What is to be compared; see `mindcoder.verify`."""

    a: str
    b: str
    data: str
    base: str | None = None
    tokenizer: str | None = None
    template: str | None = None
    tokens: int | None = None
    max_length: int | None = None
    dtype: str = "float32"
    show_progress: bool = True


def compare(request: CompareRequest) -> Comparison:
    """Compare two models. What does not fit is refused before any weights are read.

    Raises:
        UserError: a model or the data are not there, are damaged, or do not fit each other.
    """
    files, reading = find_texts(request.data)
    if request.base is not None and not any(is_adapter(Path(location)) for location in (request.a, request.b)):
        raise UserError("is a base model, but neither A nor B is an adapter", request.base)
    a, b = (open_source(location, request.base) for location in (request.a, request.b))
    a, b = described_by(a, b), described_by(b, a)
    first, second = _tokenizers(request.tokenizer, a, b)
    trained = a.weights.text_format
    template = chosen_template(request.template, trained, family_of(a.network.model_type).default_template, first)
    max_length = _length(request.max_length, a, b)
    vocab_size = min(a.network.vocab_size, b.network.vocab_size)
    reader = TextReader(files, reading, template, max_length, request.tokens)
    survey = reader.survey(first, second, vocab_size)
    for remark in survey.remarks():
        log.warning("%s: %s", request.data, remark)
    if a.network.vocab_size != b.network.vocab_size:
        sizes = f"{a.network.vocab_size} tokens, B {b.network.vocab_size}"
        log.warning("the vocabulary of A has %s: the first %d are compared", sizes, vocab_size)
    fits = [(source, fit(source, request.dtype)) for source in (a, b)]
    logits_a, logits_b = (load(source, fitting, max_length) for source, fitting in fits)
    measures = Measures(vocab_size, first.decode)
    with tqdm(
        total=survey.tokens, desc="verify", unit=" tokens", disable=None if request.show_progress else True
    ) as progress:
        for text in reader.texts(first):
            measures.texts += 1
            begin = 0
            for chunk_a, chunk_b in zip(logits_a.chunks(text.ids), logits_b.chunks(text.ids)):
                measures.add(text, begin, chunk_a, chunk_b)
                begin += len(chunk_a)
            progress.update(text.predictions)
    return measures.comparison(request.a, request.b, request.data)


def _tokenizers(given: str | None, a: ModelSource, b: ModelSource) -> tuple[CodeTokenizer, CodeTokenizer]:
    """The tokenizers of both models: the one given, else their own, else the other's.

    Raises:
        UserError: there is none, or a model was trained with another one.
    """
    asked = None if given is None else load_tokenizer(given)
    first, second = (asked or source.tokenizer for source in (a, b))
    if first is None and second is None:
        raise UserError("has no tokenizer with it, nor has B; name one with verify's --tokenizer", a.location)
    for source, own, other in ((a, first, b), (b, second, a)):
        if own is None:
            log.info("%s has no tokenizer: that of %s is taken", source.location, other.location)
    first, second = first or second, second or first
    assert first is not None and second is not None
    for source, tokenizer in ((a, first), (b, second)):
        check_model_tokenizer(tokenizer, source.weights.text_format, source.location)
    return first, second


def _length(asked: int | None, a: ModelSource, b: ModelSource) -> int:
    """Longest text, in tokens.

    Raises:
        UserError: more is asked for than a model has positions.
    """
    if asked is None:
        return min(DEFAULT_LENGTH, a.context, b.context)
    if asked < 2:
        raise UserError("max_length: a text needs at least 2 tokens")
    for source in (a, b):
        if source.network.longest_text is not None and asked > source.context:
            raise UserError(f"max_length: {asked} tokens are more than its {source.context} positions", source.location)
    return asked
