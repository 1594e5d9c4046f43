"""A model from a folder alone: weights, architecture, tokenizer and template, without a YAML file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mindspore as ms

from mindcoder.checkpoint.adapter import Adapter
from mindcoder.checkpoint.end_tokens import stop_ids
from mindcoder.checkpoint.load import fitting_weights, load_weights
from mindcoder.checkpoint.own_tokenizer import own_tokenizer
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.weights import open_adapter, open_weights
from mindcoder.data.models_template import remark_on
from mindcoder.data.own_template import end_ids
from mindcoder.data.prompt import OWN, PLAIN
from mindcoder.data.text_format import TextFormat, check_tokenizer, chosen_template, read_text_format
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.generate.engine import LARGEST_CHUNK, Engine
from mindcoder.generate.exported_decoder import ExportedDecoder
from mindcoder.generate.exported_manifest import read_exported_manifest
from mindcoder.generate.kv_cache import choose_cache
from mindcoder.generate.kv_kinds import FLOAT
from mindcoder.generate.loaded_model import Model
from mindcoder.generate.speculative import SpeculativeDecoder
from mindcoder.locations import is_exported
from mindcoder.models.decoder import Decoder
from mindcoder.tokenizer import CodeTokenizer, load_tokenizer
from mindcoder.tokenizer.fingerprint import fingerprint
from mindcoder.tokenizer.load import find_tokenizer

log = logging.getLogger(__name__)

DEFAULT_LENGTH = 4096  # of texts, where positions are computed and set no limit


@dataclass(frozen=True)
class ModelRequest:
    """Which model, and what it is to be run with.

    Attributes:
        path: Hugging Face folder, MindCoder folder, run, checkpoint or ``.gguf``; or a folder that ``export`` has
            written.
        tokenizer: vocabulary file or folder, where the model's own folder has none.
        template: of instructions; by default what the model was trained with, else the family's.
        dtype: weights are kept in float32, float16 or (on Ascend) bfloat16; CPU computes in float32 from any.
        max_length: prompt and answer together; by default the model's context, `DEFAULT_LENGTH` at most.
        batch: sequences computed together.
        blocks: cache blocks; by default every sequence of the batch fits at full length.
        adapters: names and paths of adapters on this model, one of which a request may choose.
        kv: how keys and values are kept, of `KV_CACHES`.
    """

    path: str
    tokenizer: str | None = None
    template: str | None = None
    dtype: str = "float32"
    max_length: int | None = None
    batch: int = 1
    blocks: int | None = None
    adapters: tuple[tuple[str, str], ...] = ()
    kv: str = FLOAT


def open_model(request: ModelRequest) -> Model:
    """Load everything.

    Raises:
        UserError: nothing there, no tokenizer, an adapter of another model, or lengths do not fit.
    """
    if is_exported(Path(request.path)):
        return open_exported(request)
    weights = open_weights(request.path)
    weights.require_complete()
    adapters = open_adapters(request.adapters, weights.config, weights.name)
    tokenizer = model_tokenizer(request, weights)
    check_model_tokenizer(tokenizer, weights.text_format, request.path)
    family = family_of(weights.config.model_type)
    template = chosen_template(request.template, weights.text_format, family.default_template, tokenizer)
    if weights.text_format.template is None and template not in (PLAIN, OWN):
        remark = remark_on(template, weights.companions, tokenizer)
        if remark is not None:
            log.warning(remark)
    for name, adapter in adapters.items():
        trained = adapter.text_format
        check_model_tokenizer(tokenizer, trained, adapter.path, f"adapter {name} ")
        if trained.template not in (None, template):
            log.warning(
                "adapter %s was trained with template %s; it is asked with %s", name, trained.template, template
            )
    config = _config(weights, request.dtype)
    if tokenizer.vocab_size > config.token_rows:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {config.token_rows}: not each other's",
            request.path,
        )
    longest = config.longest_text or min(config.max_position_embeddings, DEFAULT_LENGTH)
    if weights.prefix is not None:
        longest -= weights.prefix.options.tokens
    max_length = request.max_length or min(longest, DEFAULT_LENGTH)
    fitting = fitting_weights(weights, config)
    decoder = Decoder(config, empty=True)
    log.info("weights from %s", load_weights(decoder, fitting).describe())
    choose_cache(decoder, request.kv, weights)
    engine = Engine(
        decoder,
        request.batch,
        max_length,
        stop_ids(weights, tokenizer, request.tokenizer is None).union(answer_ends(template, tokenizer)),
        min(tokenizer.vocab_size, config.vocab_size),
        LARGEST_CHUNK,
        blocks=request.blocks,
        adapters=adapters,
    )
    if not engine.runner.supports_mixed_batches:
        log.info(
            "computing with MindSpore's operators: the C++ operators are not built, or not for this device or these "
            "weights"
        )
    engine.runner.warm_up()
    return Model(weights.name, decoder, engine, tokenizer, template)


def open_exported(request: ModelRequest) -> Model:
    """The model in a folder that ``export`` has written; ``request.dtype`` is the graphs' own.

    Raises:
        UserError: the folder is damaged, an adapter or another cache is asked for, or more than was exported.
    """
    folder = Path(request.path)
    if request.adapters:
        raise UserError("is an exported model, which takes no adapters: merge one with export --adapter", folder)
    if request.kv != FLOAT:
        raise UserError(f"is an exported model, whose cache is in its graphs: found --kv {request.kv}", folder)
    manifest = read_exported_manifest(folder)
    file = find_tokenizer(folder) if request.tokenizer is None else Path(request.tokenizer)
    if file is None:
        raise UserError("has no tokenizer with it; name one with --tokenizer", folder)
    tokenizer, trained = load_tokenizer(file), read_text_format(folder)
    check_model_tokenizer(tokenizer, trained, folder)
    otherwise = family_of(manifest.config.model_type).default_template
    template = chosen_template(request.template, trained, otherwise, tokenizer)
    decoder = ExportedDecoder(folder, manifest)
    engine = Engine(
        decoder,
        request.batch,
        request.max_length or manifest.max_length,
        answer_ends(template, tokenizer).union(manifest.stop_ids),
        min(tokenizer.vocab_size, manifest.config.vocab_size),
        blocks=request.blocks or manifest.blocks - 1,
    )
    engine.runner.warm_up()
    return Model(folder.resolve().name, decoder, engine, tokenizer, template)


def answer_ends(template: str, tokenizer: CodeTokenizer) -> frozenset[int]:
    """Ids that end an answer in a model's own template, beside the model's end tokens; none for ours."""
    return end_ids(tokenizer) if template == OWN else frozenset()


def check_model_tokenizer(tokenizer: CodeTokenizer, trained: TextFormat, path: str | Path, whose: str = "") -> None:
    """Compare a tokenizer to the one that a model was trained with.

    Raises:
        UserError: it is another one.
    """
    if trained.tokenizer is not None:
        given = fingerprint(tokenizer)
        check_tokenizer(trained.tokenizer, given, f"{whose}was trained with", "the one given", path)


def open_adapters(paths: Sequence[tuple[str, str]], config: TransformerConfig, model: str = "") -> dict[str, Adapter]:
    """Adapters by name, for a network of ``config``.

    Args:
        paths: name and path of each.
        model: the base model's name.

    Raises:
        UserError: a name occurs twice or is the model's, or a path holds no adapter of the network.
    """
    adapters: dict[str, Adapter] = {}
    for name, path in paths:
        if name in adapters or name == model:
            raise UserError(f"--adapter {name}={path}: {name} is {'the model' if name == model else 'already taken'}")
        adapters[name] = open_adapter(path, config)
        if any(update.magnitude is not None for update in adapters[name].updates.values()):
            raise UserError("is DoRA, which only merges: give it as the model itself, or merge-lora", path)
        log.info("adapter %s: %d layers, rank %d", name, len(adapters[name].updates), adapters[name].rank)
    return adapters


def open_draft(model: Model, path: str, dtype: str, lookahead: int) -> SpeculativeDecoder:
    """A draft model beside ``model``.

    Raises:
        UserError: nothing there, or its vocabulary is another one; or ``model`` is exported.
    """
    weights = open_weights(path)
    weights.require_complete()
    fitting = fitting_weights(weights, _config(weights, dtype))
    if isinstance(model.decoder, ExportedDecoder):
        raise UserError("is an exported model, which takes no draft model", model.decoder.folder)
    draft = Decoder(_config(weights, dtype), empty=True)
    log.info("draft from %s", load_weights(draft, fitting).describe())
    choose_cache(draft, model.decoder.kv_cache, weights)
    engine = model.engine
    speculative = SpeculativeDecoder(
        model.decoder, draft, engine.max_length, engine.stop_ids, engine.vocab_size, lookahead
    )
    for cached in (speculative.model, speculative.draft):
        cached.runner.warm_up()
    return speculative


def model_tokenizer(request: ModelRequest, weights: Weights) -> CodeTokenizer:
    """The tokenizer that was asked for, or the one that lies with the weights.

    Raises:
        UserError: there is none.
    """
    if request.tokenizer is not None:
        return load_tokenizer(request.tokenizer)
    found = own_tokenizer(weights, request.path)
    if found is None:
        raise UserError("has no tokenizer with it; name one with --tokenizer", request.path)
    return found


def _config(weights: Weights, dtype: str) -> TransformerConfig:
    return generation_network(replace(weights.config.without_dropout(), param_dtype=dtype, compute_dtype=dtype))


def generation_network(config: TransformerConfig) -> TransformerConfig:
    """The network as it answers: Ascend computes in the compute dtype, CPU in float32, by every decoder."""
    if ms.get_context("device_target") == "Ascend":
        return config
    return replace(config, compute_dtype="float32")
