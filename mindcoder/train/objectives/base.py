"""What a training step minimizes: the interface between the trainer and its objective."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mindspore import Tensor, nn

from mindcoder.config.schema import RunConfig
from mindcoder.data.loader import Batch, Loader
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.mesh import Mesh
from mindcoder.train.objectives.token_metrics import TokenMetrics


class Objective(ABC):
    """A loss, with everything that the trainer has to know about it.

    A new objective is a module with a subclass, named ``OBJECTIVE``, and an entry in
    `mindcoder.train.objectives.registry`.
    """

    @classmethod
    @abstractmethod
    def build(cls, config: RunConfig, loader: Loader, mesh: Mesh) -> Objective:
        """The objective of a run.

        Args:
            loader: this rank's training data.
            mesh: the layout of the run.

        Raises:
            UserError: it does not work with these data, this layout or this start.
        """

    def prepare(self, decoder: Decoder, config: RunConfig, mesh: Mesh, weights: str) -> None:  # noqa: B027
        """Compute what the loss needs from the start weights; called once, before adapters are added.

        Args:
            decoder: with its start weights.
            weights: state of the files that these were read from; empty if they are random.
        """

    @abstractmethod
    def weight(self, batch: Batch) -> int:
        """How much a batch counts within its step: its labeled tokens, or its pairs."""

    def extra_targets(self, batch: Batch) -> tuple[Tensor, ...]:
        """Inputs of the step's graph beside ids, positions, documents and labels, for the loss.

        Always as many, and of the same shapes for batches of one length: a graph is compiled for each. The stages of a
        pipeline are given none.
        """
        return ()

    @abstractmethod
    def loss(self, decoder: Decoder, scaled: bool) -> nn.Cell:
        """The language-model head fused with the loss.

        Args:
            decoder: the network, or its last pipeline stage.
            scaled: whether the loss is multiplied by a loss scale before its gradient is taken.

        Returns:
            A cell: ``construct(hidden_states [Q, H], weight [V, H], targets)``, where ``targets`` is the tuple
            (labels ``[B, S]``, document ids ``[B, S]``, *`extra_targets`), returns a tuple with the mean loss of the
            micro batch, a float32 scalar, first.
        """

    @classmethod
    def metrics(cls, decoder: Decoder) -> nn.Cell:
        """The cell that measures the head's predictions on an evaluation dataset, see `TokenMetrics`."""
        return TokenMetrics(decoder)

    def summary(self, decoder: Decoder, show_progress: bool) -> str:
        """A line for the log at the end of a run; empty if there is nothing to add to its losses."""
        return ""
