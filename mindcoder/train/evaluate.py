"""Loss, perplexity and token accuracy on a dataset."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import mindspore as ms
from mindspore import Tensor, nn

from mindcoder.data.loader import BatchLoader
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.context_parallel import own_tokens
from mindcoder.parallel.data_parallel import HostCollectives
from mindcoder.parallel.mesh import SINGLE, Mesh
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.progress import tqdm
from mindcoder.train.digits import decimals
from mindcoder.train.pipeline_step import stage_link

MetricsBuilder = Callable[[Decoder], nn.Cell]  # `Objective.metrics`


@dataclass(frozen=True)
class EvalResult:
    """Averages over all labeled tokens of a dataset."""

    loss: float
    accuracy: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """``exp(loss)``."""
        return math.exp(min(self.loss, 700.0))

    def __str__(self) -> str:
        return (
            f"loss {decimals(self.loss, 4)}, perplexity {self.perplexity:.4g}, token accuracy {self.accuracy:.2%} "
            f"on {self.tokens} tokens"
        )


class EvalStep(nn.Cell):
    """Sums over one batch: loss, correct predictions, labeled tokens. No dropout.

    Args:
        decoder: the network, or its last pipeline stage, which takes hidden states instead of ids.
        metrics: of the objective, see `Objective.metrics`.
    """

    def __init__(self, decoder: Decoder, metrics: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.decoder, self.metrics = decoder, metrics

    def construct(
        self, inputs: Tensor, position_ids: Tensor, document_ids: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Three float32 scalars for int32 arrays ``[B, S]``."""
        hidden_states = self.decoder(inputs, position_ids, document_ids, Tensor(0, ms.int32))
        return self.metrics(hidden_states, self.decoder.head_weight(), labels)


class PipelineEval:
    """`EvalStep` of a pipeline stage: receives hidden states from the previous stage and sends them to the next.

    The sums are returned on the last stage; zeros on the others.
    """

    def __init__(self, decoder: Decoder, comm: ProcessGroups, metrics: MetricsBuilder) -> None:
        self.decoder, self.comm = decoder, comm
        self.last = EvalStep(decoder, metrics(decoder)) if decoder.stage.is_last else None

    def set_train(self, train: bool) -> None:
        """Switch dropout on or off."""
        (self.last or self.decoder).set_train(train)

    def __call__(
        self, input_ids: Tensor, position_ids: Tensor, document_ids: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        previous, following = (stage_link(self.decoder, self.comm, step, input_ids.size) for step in (-1, 1))
        entered = None if previous is None else previous.exchange(None, True)
        inputs = input_ids if entered is None else entered
        if self.last is not None:
            return self.last(inputs, position_ids, document_ids, labels)
        hidden_states = self.decoder(inputs, position_ids, document_ids, Tensor(0, ms.int32))
        assert following is not None
        following.exchange(hidden_states, False)
        zero = Tensor(0.0, ms.float32)
        return zero, zero, zero


def build_evaluation(
    decoder: Decoder, loader: BatchLoader, comm: ProcessGroups, metrics: MetricsBuilder
) -> Callable[[], EvalResult]:
    """`evaluate` of this rank's part of the network; ``metrics`` is `Objective.metrics`."""
    step = EvalStep(decoder, metrics(decoder)) if decoder.stage.is_whole else PipelineEval(decoder, comm, metrics)
    return partial(evaluate, step, loader, comm.mesh.rank == 0, HostCollectives(comm), comm.mesh)


def evaluate(
    step: EvalStep | PipelineEval,
    loader: BatchLoader,
    show_progress: bool = True,
    host_comm: HostCollectives | None = None,
    mesh: Mesh = SINGLE,
) -> EvalResult:
    """Evaluate one pass over ``loader`` (over all ranks, with ``host_comm``). The network's training flag is
    restored.
    """
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
            step.decoder.attention_masks.check(batch.document_ids)
            batch = own_tokens(batch, mesh)
            sums = step(
                Tensor(batch.input_ids), Tensor(batch.position_ids), Tensor(batch.document_ids), Tensor(batch.labels)
            )
            loss, right, count = (total + float(part.asnumpy()) for total, part in zip((loss, right, count), sums))
    finally:
        step.decoder.set_train(was_training)
    if host_comm is not None:
        loss, right, count = host_comm.all_reduce(loss, right, count, from_last_stage=True)
    return EvalResult(loss / max(count, 1.0), right / max(count, 1.0), int(count))
