"""The cell that is exported: a decoder's step with inputs of their own instead of the engine's packed ones."""

from __future__ import annotations

from mindspore import Tensor

from mindcoder.backend.operator_source import portable_operators
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.generate.operator_decoder import OperatorDecoder
from mindcoder.models.decoder import Decoder


class ExportedStep(OperatorDecoder):
    """`OperatorDecoder` of operators that MindIR can name; the cache is its parameters."""

    def construct(  # type: ignore[override]
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slot_mapping: Tensor,
        block_tables: Tensor,
        logits_indices: Tensor,
        cos_sin: Tensor | None = None,
    ) -> Tensor:
        """One step of T tokens of B sequences, T / B of each.

        Args:
            input_ids, position_ids: int32 ``[Q]``.
            slot_mapping: int32 ``[Q]``, where each token's keys and values are written.
            block_tables: int32 ``[B, M]``, the blocks of each sequence.
            logits_indices: int32 ``[I]``, the tokens whose logits are computed.
            cos_sin: float32 ``[Q, D]``, cos and then sin of the pairs (`mindcoder.models.rotary.rotary_angles`); not
                with learned positions.

        Returns:
            float32 ``[I, V]``.
        """
        return self.compute(input_ids, position_ids, slot_mapping, block_tables, cos_sin, logits_indices)


def exported_step(config: TransformerConfig, blocks: int, block_size: int) -> ExportedStep:
    """The cell, and in its ``decoder`` the network, whose weights are to be loaded.

    Args:
        blocks: of the cache, the scratch block included.
        block_size: tokens of a block.
    """
    with portable_operators():
        return ExportedStep(Decoder(config, empty=True), blocks, block_size, pages=False)
