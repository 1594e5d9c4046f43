"""Builds a `TransformerConfig` from ``model.model_config`` of the YAML file."""

from __future__ import annotations

from mindcoder.errors import UserError
from mindcoder.families.registry import family_of_type
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.sections.decoder_section import DecoderSection


def config_from_section(section: DecoderSection) -> TransformerConfig:
    """Build the configuration from ``model.model_config`` of any family.

    Raises:
        UserError: sizes contradict each other.
    """
    try:
        return family_of_type(section.type).network(section)
    except ValueError as error:
        raise UserError(f"model.model_config: {error}") from None
