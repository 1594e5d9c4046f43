"""A model to compare: what its files say, and the network that gives its logits."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mindcoder.checkpoint.adapter import Adapter, Update, unmerged_plans
from mindcoder.checkpoint.adapter_weights import PeftAdapter, RunAdapter
from mindcoder.checkpoint.load import FittingWeights, fitting_weights, load_weights
from mindcoder.checkpoint.own_tokenizer import own_tokenizer
from mindcoder.checkpoint.store import find_checkpoint
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.weights import open_adapted, open_weights
from mindcoder.config.given import read_configuration
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.generate.adapters import LoadedAdapters, add_adapters
from mindcoder.generate.engine import BLOCK_SIZE, LARGEST_CHUNK
from mindcoder.generate.model import generation_network
from mindcoder.generate.scoring import Scorer
from mindcoder.models.decoder import Decoder
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.train.job import configured_tokenizer

log = logging.getLogger(__name__)

CONFIGURATIONS = (".yaml", ".yml")
ADAPTER = "adapter"  # name of the only one beside a base model


@dataclass(frozen=True)
class ModelSource:
    """A model as its files describe it; no tensor has been read.

    Attributes:
        location: as the user named it.
        weights: of the model, an adapter merged into its base.
        network: its architecture.
        tokenizer: that lies with it; None if there is none.
        is_described: whether the files state the whole architecture. A ``.ckpt`` without ``config.json`` does not.
    """

    location: str
    weights: Weights
    network: TransformerConfig
    tokenizer: CodeTokenizer | None
    is_described: bool

    @property
    def context(self) -> int:
        """Tokens that a text may have beside a learned prefix; with rotary positions it may have more."""
        prefix = self.weights.prefix
        return self.network.max_position_embeddings - (0 if prefix is None else prefix.options.tokens)


@dataclass(frozen=True)
class FittingSource:
    """A model whose weights fit its network, judging by their headers alone.

    Attributes:
        weights: of the base model where there are ``updates``.
        updates: of linear layers, computed beside the weights, as `serve --adapter` does; by name.
    """

    network: TransformerConfig
    weights: FittingWeights
    updates: Mapping[str, Update]


class LogitsOfTexts:
    """Logits of texts, chunk by chunk.

    Args:
        decoder: the network with its weights.
        max_length: longest text, in tokens.
        chunk: tokens of a step.
        adapters: the only adapter, which all texts take; None without.
    """

    def __init__(self, decoder: Decoder, max_length: int, chunk: int, adapters: LoadedAdapters | None) -> None:
        self._scorer = Scorer(decoder, max_length, BLOCK_SIZE, chunk, adapters)
        self._adapter = 0 if adapters is None else adapters.number(ADAPTER)

    def chunks(self, ids: np.ndarray) -> Iterator[np.ndarray]:
        """Float32 ``[s, V]`` after ``[s, V]`` for int32 ids ``[S]``; row ``i`` is about the token after ``ids[i]``."""
        return self._scorer.chunks(ids.tolist(), self._adapter)


def open_source(location: str | Path, base: str | Path | None = None) -> ModelSource:
    """Open everything that a model may be.

    Args:
        location: Hugging Face folder, MindCoder folder, run, checkpoint, ``.ckpt`` or adapter; or the YAML file of a
            model whose ``load_checkpoint`` is one of them.
        base: base model of an adapter; by default the one recorded there.

    Raises:
        UserError: nothing there, unknown or damaged; or a server's URL.
    """
    name = str(location)
    if re.match(r"https?://", name):
        raise UserError(
            "is a server: its /v1/completions gives the logprobs of the tokens that it generates, not those of a given "
            "text; name the folder that it serves",
            name,
        )
    path = Path(location)
    if path.suffix in CONFIGURATIONS:
        return _configured(name)
    weights = open_adapted(path, base) if base is not None and is_adapter(path) else open_weights(path)
    tokenizer = own_tokenizer(weights, name)
    return ModelSource(name, weights, weights.config, tokenizer, not weights.required_fields)


def _configured(file: str) -> ModelSource:
    """The model of a YAML file, as predict and eval take it."""
    run = read_configuration(file).run
    if not run.load_checkpoint:
        raise UserError("names no weights: load_checkpoint is empty", file)
    weights, network = open_weights(run.load_checkpoint), config_from_section(run.model.settings)
    return ModelSource(file, weights, network, configured_tokenizer(run, required=False), True)


def is_adapter(path: Path) -> bool:
    """Whether a folder is a PEFT adapter or a run that has trained one."""
    return path.is_dir() and (PeftAdapter.at(path) or RunAdapter.of(find_checkpoint(path))) is not None


def described_by(source: ModelSource, other: ModelSource) -> ModelSource:
    """``source``; what its files do not tell of its architecture is taken from ``other``.

    Raises:
        UserError: ``other`` does not tell it either.
    """
    if source.is_described:
        return source
    if not other.is_described:
        source.weights.require_complete()
    log.info("%s does not tell its whole architecture; it is read as that of %s", source.location, other.location)
    own = source.weights.config
    return replace(
        source, network=replace(other.network, vocab_size=own.vocab_size, padded_vocab_size=0), is_described=True
    )


def fit(source: ModelSource, dtype: str) -> FittingSource:
    """Compare a model's weights with its network before memory is allocated.

    Args:
        dtype: of the weights in memory.

    Raises:
        UserError: they do not fit each other, or are damaged.
    """
    network = generation_network(replace(source.network.without_dropout(), param_dtype=dtype, compute_dtype=dtype))
    found = fitting_weights(source.weights, network)
    plans, updates = unmerged_plans(found.plans)
    return FittingSource(network, FittingWeights(found.weights, plans), updates)


def load(source: ModelSource, fitting: FittingSource, max_length: int) -> LogitsOfTexts:
    """Read the weights.

    Args:
        fitting: `fit` of ``source``.
        max_length: longest text, in tokens.

    Raises:
        UserError: the weights are damaged, or a learned prefix does not fill whole blocks of the cache.
    """
    decoder = Decoder(fitting.network, empty=True)
    log.info("weights from %s", load_weights(decoder, fitting.weights).describe())
    chunk = min(LARGEST_CHUNK, -(-max_length // 32) * 32)
    adapters = None
    if fitting.updates:
        adapter = Adapter(source.weights.path, "", fitting.updates)
        log.info("its adapter is computed beside the base model: %d layers", len(fitting.updates))
        adapters = add_adapters(decoder, {ADAPTER: adapter}, chunk)
    return LogitsOfTexts(decoder, max_length, chunk, adapters)
