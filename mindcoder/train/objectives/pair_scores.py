"""Log-probabilities of preference pairs: the reference of DPO, and how well a model ranks the pairs."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindcoder.data.loader import BatchLoader
from mindcoder.files import replacing
from mindcoder.models.decoder import Decoder
from mindcoder.progress import tqdm
from mindcoder.train.objectives.preference_loss import PairLogprobs

log = logging.getLogger(__name__)


class PairStep(nn.Cell):
    """``[B, 2]`` log-probabilities and label counts of a batch of pairs; no dropout."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(auto_prefix=False)
        self.decoder, self.scores = decoder, PairLogprobs()

    def construct(self, input_ids: Tensor, position_ids: Tensor, document_ids: Tensor, labels: Tensor) -> tuple:
        hidden_states = self.decoder(input_ids, position_ids, document_ids, Tensor(0, ms.int32))
        return self.scores(hidden_states, self.decoder.head_weight(), labels, document_ids)


@dataclass(frozen=True)
class PairTable:
    """Per row of a dataset: log-probabilities and labeled tokens of chosen and rejected, float32 ``[rows, 2]``."""

    logprobs: np.ndarray
    counts: np.ndarray


def score_pairs(decoder: Decoder, loader: BatchLoader, title: str, show_progress: bool = True) -> PairTable:
    """Score all rows once, in file order."""
    step, was_training = PairStep(decoder), decoder.training
    step.set_train(False)
    logprobs, counts = [], []
    batches = tqdm(
        loader.batches(), total=loader.batches_per_epoch, desc=title, unit=" batches", leave=False,
        disable=None if show_progress else True,
    )  # fmt: skip
    try:
        for batch, _ in batches:
            decoder.attention_masks.check(batch.document_ids)
            inputs = (batch.input_ids, batch.position_ids, batch.document_ids, batch.labels)
            sums, numbers = step(*map(Tensor, inputs))
            logprobs.append(sums.asnumpy())
            counts.append(numbers.asnumpy())
    finally:
        decoder.set_train(was_training)
    rows = loader.rows
    return PairTable(np.concatenate(logprobs)[:rows], np.concatenate(counts)[:rows])


def reference_logprobs(decoder: Decoder, loader: BatchLoader, source: str, cache: Path) -> np.ndarray:
    """``[rows, 2]`` of the reference model, from ``cache`` if it was computed for the same weights and data.

    Args:
        decoder: with the reference's weights.
        loader: over all rows, unshuffled.
        source: identifies the weights and the data.
        cache: an .npz file.
    """
    key = hashlib.sha256(f"{source} {loader.rows}".encode()).hexdigest()
    if cache.is_file():
        with np.load(cache) as stored:
            if str(stored["key"]) == key:
                return stored["logprobs"]
    table = score_pairs(decoder, loader, "reference")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with replacing(cache) as stream:
        np.savez(stream, key=key, logprobs=table.logprobs)
    log.info("reference log-probabilities of %d pairs in %s", loader.rows, cache)
    return table.logprobs


def preferred(table: PairTable, reference: np.ndarray | None) -> float:
    """Fraction of pairs in which the chosen answer wins: relative to the reference (DPO), or per token (SimPO)."""
    values = table.logprobs / np.maximum(table.counts, 1) if reference is None else table.logprobs - reference
    return float((values[:, 0] > values[:, 1]).mean())
