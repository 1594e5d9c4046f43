"""Loss, perplexity and token accuracy on a dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mindspore as ms
from mindspore import Tensor, nn, ops
from tqdm import tqdm

from mindcoder.data.loader import BatchLoader
from mindcoder.models.decoder import Decoder
from mindcoder.models.loss import IGNORED_LABEL, RowCrossEntropy
from mindcoder.parallel.data_parallel import Agreement


@dataclass(frozen=True)
class EvalResult:
    """Averages over all labelled tokens of a dataset."""

    loss: float
    accuracy: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """``exp(loss)``."""
        return math.exp(min(self.loss, 700.0))

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.4f}, perplexity {self.perplexity:.4g}, token accuracy {self.accuracy:.2%} "
            f"on {self.tokens} tokens"
        )


class EvalStep(nn.Cell):
    """Sums over one batch: loss, right predictions, labelled tokens. No dropout."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(auto_prefix=False)
        self.decoder = decoder
        self.row_loss = RowCrossEntropy()
        self.argmax = ops.Argmax(axis=-1, output_type=ms.int32)

    def construct(
        self, input_ids: Tensor, position_ids: Tensor, document_ids: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Three float32 scalars for int32 arrays ``[B, S]``."""
        hidden = self.decoder(input_ids, position_ids, document_ids, Tensor(0, ms.int32))
        logits = self.decoder.logits(hidden)
        labels = labels.reshape((-1,))
        right = ops.cast(self.argmax(logits) == labels, ms.float32)
        count = ops.cast(labels != IGNORED_LABEL, ms.float32)
        return self.row_loss(logits, labels).sum(), right.sum(), count.sum()


def evaluate(
    step: EvalStep, loader: BatchLoader, show_progress: bool = True, agreement: Agreement | None = None
) -> EvalResult:
    """Go once through ``loader`` (of every rank, with ``agreement``). The network's training flag is restored."""
    was_training = step.decoder.training
    step.set_train(False)
    loss = right = count = 0.0
    batches = tqdm(
        loader.batches(),
        total=loader.batches_per_epoch,
        desc="eval",
        unit=" batches",
        leave=False,
        disable=None if show_progress else True,
    )
    try:
        for batch, _ in batches:
            sums = step(
                Tensor(batch.input_ids), Tensor(batch.position_ids), Tensor(batch.document_ids), Tensor(batch.labels)
            )
            loss, right, count = (total + float(part.asnumpy()) for total, part in zip((loss, right, count), sums))
    finally:
        step.decoder.set_train(was_training)
    if agreement is not None:
        loss, right, count = agreement.total(loss, right, count)
    return EvalResult(loss / max(count, 1.0), right / max(count, 1.0), int(count))
