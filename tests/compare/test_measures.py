"""`Measures`: its sums are torch's on the same logits, however they are cut into chunks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mindcoder.compare.comparison import Comparison
from mindcoder.compare.measures import Measures
from mindcoder.compare.texts import Text
from mindcoder.errors import UserError

V = 37


def decode(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def text_of(rng, length: int, record: int = 0, start: int = 0) -> Text:
    return Text("d.jsonl", record + 1, record, start, rng.integers(0, V, length).astype(np.int32))


def logits_of(rng, length: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    a = rng.normal(0, 3, (length, V)).astype(np.float32)
    return a, (a + rng.normal(0, noise, a.shape)).astype(np.float32)


def compared(cases, chunk: int = 1000, vocab_size: int = V) -> Comparison:
    measures = Measures(vocab_size, decode)
    for text, a, b in cases:
        measures.texts += 1
        for begin in range(0, len(a), chunk):
            measures.add(text, begin, a[begin : begin + chunk], b[begin : begin + chunk])
    return measures.comparison("a", "b", "d.jsonl")


@pytest.mark.parametrize("noise", [1.0, 1e-3])
def test_the_numbers_are_torchs(rng, noise):
    cases = []
    for record, length in enumerate((5, 70, 2, 33)):
        cases.append((text_of(rng, length, record), *logits_of(rng, length, noise)))
    a, b = (torch.tensor(np.concatenate([case[which][:-1] for case in cases])).double() for which in (1, 2))
    targets = torch.tensor(np.concatenate([case[0].ids[1:] for case in cases])).long()
    log_a, log_b = a.log_softmax(1), b.log_softmax(1)
    divergences = torch.nn.functional.kl_div(log_b, log_a, reduction="none", log_target=True).sum(1)
    for chunk in (1000, 32, 7):
        found = compared(cases, chunk)
        assert (found.texts, found.tokens, found.vocab_size) == (4, len(targets), V)
        assert found.kl == pytest.approx(float(divergences.mean()), rel=1e-9)
        assert found.max_kl == pytest.approx(float(divergences.max()), rel=1e-9)
        assert found.max_difference == float((a - b).abs().max())
        assert found.mean_difference == pytest.approx(float((a - b).abs().mean()), rel=1e-9)
        assert found.agreement == float((a.argmax(1) == b.argmax(1)).double().mean())
        for logits, perplexity in ((a, found.perplexity_a), (b, found.perplexity_b)):
            assert perplexity == pytest.approx(math.exp(torch.nn.functional.cross_entropy(logits, targets)), rel=1e-9)


def test_equal_logits_differ_in_nothing(rng):
    a, _ = logits_of(rng, 50, 0.0)
    found = compared([(text_of(rng, 50), a, a.copy())])
    assert (found.kl, found.max_kl, found.max_difference, found.mean_difference) == (0.0, 0.0, 0.0, 0.0)
    assert found.agreement == 1.0 and found.first is None and found.perplexity_a == found.perplexity_b
    assert "none: every likeliest token is the same" in str(found)
    assert "top-1 agreement 100.000 % of 49 tokens, KL 0.00e+00" in found.summary()


@pytest.mark.parametrize("chunk", [1000, 32, 5])
def test_the_first_token_that_differs_is_named_with_the_text_around_it(rng, chunk):
    same, _ = logits_of(rng, 20, 0.0)
    text, (a, _) = text_of(rng, 60, record=3, start=100), logits_of(rng, 60, 0.0)
    b = a.copy()
    a[41, 7] = b[41, 9] = a[45, 1] = 50.0
    found = compared([(text_of(rng, 20), same, same), (text, a, b)], chunk)
    first = found.first
    assert first is not None and (first.file, first.line, first.record, first.position) == ("d.jsonl", 4, 3, 142)
    ids = text.ids.tolist()
    assert (first.before, first.actual, first.after) == (decode(ids[18:42]), str(ids[42]), decode(ids[43:51]))
    assert (first.a.token, first.a.text, first.b.token) == (7, "7", 9) and first.a.probability > 0.99
    assert found.agreement == pytest.approx(1 - 2 / 78) and "d.jsonl:4, record 3, token 142" in str(found)
    assert found.as_dict()["first"]["b"] == {"token": 9, "text": "9", "probability": first.b.probability}


def test_agreement_is_never_rounded_up_to_everything(rng):
    a, _ = logits_of(rng, 2, 0.0)
    found = compared([(text_of(rng, 2), a, a)])
    assert "100.000 %" in found.summary()
    almost = Comparison(**{**vars(found), "agreement": 1 - 1e-9})
    assert "99.999 %" in almost.summary() and "99.999 %" in str(almost)


def test_a_smaller_vocabulary_is_normalized_by_itself(rng):
    a, b = logits_of(rng, 30, 0.5)
    text = Text("d", None, 0, 0, rng.integers(0, 20, 30).astype(np.int32))
    assert compared([(text, a, b)], vocab_size=20) == compared([(text, a[:, :20], b[:, :20])], vocab_size=20)


@pytest.mark.parametrize("which, value", [("A", np.nan), ("B", np.inf), ("B", -np.inf)])
def test_what_is_not_a_number_is_refused(rng, which, value):
    text, (a, b) = text_of(rng, 10, record=2), logits_of(rng, 10, 0.1)
    (a if which == "A" else b)[4, 3] = value
    with pytest.raises(UserError, match=rf"d\.jsonl:3: record 2: the output of {which} is not a number"):
        compared([(text, a, b)])
