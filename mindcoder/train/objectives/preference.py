"""Preference tuning on pairs of answers: DPO and SimPO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mindspore import Tensor, nn

from mindcoder.config.layout import active_layout
from mindcoder.config.schema import RunConfig
from mindcoder.data.content import signature
from mindcoder.data.loader import Batch, BatchLoader, Loader
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.mesh import Mesh
from mindcoder.train.datasets import build_loader
from mindcoder.train.objectives.base import Objective
from mindcoder.train.objectives.pair_scores import preferred, reference_logprobs, score_pairs
from mindcoder.train.objectives.preference_loss import PreferenceLoss, PreferenceOptions


class Preference(Objective):
    """Every row of the data is a pair; a step's loss is the mean over its pairs.

    Attributes:
        options: choice and parameters of the loss.
        pairs: loader of all rows in file order; from `prepare`.
        reference: of DPO, the reference model's log-probabilities of all answers, float32 ``[rows, 2]``; from
            `prepare`.
    """

    def __init__(self, options: PreferenceOptions) -> None:
        self.options = options
        self.pairs: BatchLoader | None = None
        self.reference: np.ndarray | None = None

    @classmethod
    def build(cls, config: RunConfig, loader: Loader, mesh: Mesh) -> Preference:
        """The objective of ``preference``.

        Raises:
            UserError: there are no pairs or no model to start from, or a rank lacks layers or a part of the vocabulary.
        """
        section, layout = config.preference, active_layout(config)
        assert section is not None
        if layout.pipeline > 1:
            raise UserError(
                "preference: not supported with pipeline parallelism; parallel_config.pipeline_stage must be 1"
            )
        if layout.tensor > 1 and layout.vocabulary:
            raise UserError("preference: pairs need whole logits; leave parallel_config.vocab_emb_dp at True")
        if not loader.holds_pairs:
            raise UserError("preference: the dataset holds no pairs; preprocess it with --pairs")
        if config.train_dataset.data_loader.dataset_weights is not None:
            raise UserError("preference: dataset_weights are not supported for pairs")
        if not config.load_checkpoint:
            raise UserError("preference: pairs need a model to start from: --load_checkpoint")
        return cls(PreferenceOptions(section.type, section.beta, section.gamma, section.label_smoothing))

    def prepare(self, decoder: Decoder, config: RunConfig, mesh: Mesh, weights: str) -> None:
        """Score all pairs, on every process, with DPO's reference model: the start weights."""
        self.pairs = build_loader(config, config.train_dataset, False, False)
        if self.options.kind == "dpo":
            source = f"{config.load_checkpoint} {weights} {config.seed} {signature(self.pairs.files)}"
            cache = Path(config.output_dir) / f"reference-{mesh.rank}.npz"
            self.reference = reference_logprobs(decoder, self.pairs, source, cache)

    def weight(self, batch: Batch) -> int:
        return batch.row_count

    def extra_targets(self, batch: Batch) -> tuple[Tensor, ...]:
        """float32 ``[B, 2]``: the reference's log-probabilities of each pair's answers; zeros without a reference."""
        values = np.zeros((len(batch.input_ids), 2), np.float32)
        if self.reference is not None and batch.rows is not None:
            values[: len(batch.rows)] = self.reference[batch.rows]
        return (Tensor(values),)

    def loss(self, decoder: Decoder, scaled: bool) -> nn.Cell:
        return PreferenceLoss(self.options, scaled)

    def summary(self, decoder: Decoder, show_progress: bool) -> str:
        """How often the trained model finds the chosen answer the likelier one."""
        assert self.pairs is not None
        share = preferred(score_pairs(decoder, self.pairs, "pairs", show_progress), self.reference)
        return f"the chosen answer is the likelier one in {100 * share:.1f} % of the {self.pairs.rows} pairs"


OBJECTIVE = Preference
