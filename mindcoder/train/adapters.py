"""Adds the adapter of a configuration to a network."""

from __future__ import annotations

import logging
import math

from mindcoder.config.schema import RunConfig
from mindcoder.errors import UserError
from mindcoder.models.decoder import Decoder
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LoraOptions, PrefixOptions, added_shapes, matching_linears
from mindcoder.peft.prefix import add_prefix

log = logging.getLogger(__name__)


def add_adapter(decoder: Decoder, adapter: LoraOptions | PrefixOptions | None, config: RunConfig) -> None:
    """Add the adapter, if there is one, and log its share of the parameters.

    Raises:
        UserError: it does not fit the network.
    """
    if isinstance(adapter, LoraOptions):
        _add_lora(decoder, adapter, config.seed)
    elif adapter is not None:
        _add_prefix(decoder, adapter, config)


def _add_lora(decoder: Decoder, lora: LoraOptions, seed: int) -> None:
    try:
        add_lora(decoder, lora, seed)
    except ValueError as error:
        raise UserError(f"model.model_config.pet_config.target_modules: {error}") from None
    linears = len(matching_linears(lora, decoder.config))
    _log_trainable_share(
        f"{'DoRA' if lora.magnitudes else 'LoRA'} rank {lora.rank} on {linears} linear layers", decoder, lora
    )


def _add_prefix(decoder: Decoder, prefix: PrefixOptions, config: RunConfig) -> None:
    model, network = config.model.settings, decoder.config
    limits = [limit for limit in (network.longest_text, network.sliding_window) if limit is not None]
    if limits and model.seq_length + prefix.tokens > min(limits):
        raise UserError(
            f"model.model_config.pet_config.pre_seq_len: {prefix.tokens} and seq_length {model.seq_length} are more "
            f"than the model's {min(limits)} positions"
        )
    try:
        add_prefix(decoder, prefix, config.seed)
    except ValueError as error:
        raise UserError(f"model.model_config.pet_config: {error}") from None
    _log_trainable_share(f"a prefix of {prefix.tokens} tokens in {network.num_layers} layers", decoder, prefix)


def _log_trainable_share(what: str, decoder: Decoder, options: LoraOptions | PrefixOptions) -> None:
    trained = sum(math.prod(shape) for shape in added_shapes(options, decoder.config).values())
    total = decoder.config.num_parameters() + trained
    log.info("%s: %d of %d parameters are trained (%.3f %%)", what, trained, total, 100 * trained / total)
