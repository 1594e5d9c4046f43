"""A training or evaluation run from a validated configuration."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindcoder.checkpoint.companions import copy_companions
from mindcoder.checkpoint.end_tokens import companions_beside
from mindcoder.checkpoint.fingerprint import weights_digest
from mindcoder.checkpoint.load import FittingWeights, check_architecture, fitting_weights, load_weights
from mindcoder.checkpoint.store import Checkpoint
from mindcoder.config.schema import RunConfig
from mindcoder.data.content import content_digest, kept_digest, signature
from mindcoder.data.loader import BatchLoader, DataLayout, Loader
from mindcoder.data.text_format import UNKNOWN, TextFormat, write_text_format
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.graph_lock import GRAPH_LOCK
from mindcoder.models.decoder import Decoder
from mindcoder.parallel.cluster import build_part, meet_cluster
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.peft.from_section import lora_options, prefix_options
from mindcoder.peft.options import added_shapes
from mindcoder.planning.memory import BYTES_PER_PARAMETER
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.train.adapters import add_adapter
from mindcoder.train.build import (
    build_adamw,
    build_callbacks,
    build_options,
    build_step,
    micro_batches,
    total_steps,
)
from mindcoder.train.callbacks.base import Callback
from mindcoder.train.checkpointing import Checkpointing
from mindcoder.train.datasets import build_eval_loader, build_train_loader
from mindcoder.train.evaluate import EvalResult, build_evaluation
from mindcoder.train.from_section import build_schedule
from mindcoder.train.identity import NO_BASE, Identity, compare, identity_of
from mindcoder.train.objectives.base import Objective
from mindcoder.train.objectives.registry import build_objective, objective_entry
from mindcoder.train.options import TrainOptions
from mindcoder.train.report import write_run_description
from mindcoder.train.request import TrainRequest
from mindcoder.train.resume import resume_source
from mindcoder.train.trainer import Trainer

log = logging.getLogger(__name__)

DIGESTS = "digests.json"  # of data and weights, kept in the output folder


@dataclass(frozen=True)
class Prepared:
    """What a run consists of, checked before its network takes memory.

    Attributes:
        comm: its processes.
        network: the architecture.
        loader, eval_loader: this rank's data.
        objective: what is minimized.
        options: hyperparameters.
        resume_from: the checkpoint that it continues, if any.
        start: weights that it starts from, if any.
    """

    comm: ProcessGroups
    network: TransformerConfig
    loader: Loader
    eval_loader: BatchLoader | None
    objective: Objective
    options: TrainOptions
    resume_from: Checkpoint | None
    start: FittingWeights | None


def train(
    config: RunConfig,
    request: TrainRequest,
    tokenizer: CodeTokenizer | None = None,
    text_format: TextFormat = UNKNOWN,
    listeners: Sequence[Callback] = (),
) -> tuple[Trainer, EvalResult | None]:
    """Train or fine-tune as ``config`` says.

    Args:
        tokenizer: for data that are streamed; saved with the checkpoints if the run was given one.
        text_format: how the texts of the data became token ids.
        listeners: callbacks beside those of ``config``.

    Raises:
        UserError: data, checkpoint or output folder do not fit.
    """
    with GRAPH_LOCK:
        prepared = _prepare(config, request, tokenizer, text_format)
        trainer = _build_trainer(config, prepared, tokenizer, listeners)
    if trainer.finished:
        log.info(
            "nothing to do: step %d of %d is done; raise runner_config.max_steps or runner_config.epochs to continue",
            *(trainer.step, trainer.options.total_steps),
        )
        return trainer, None
    _log_run_size(config, trainer, prepared.start)
    main = trainer.mesh.rank == 0
    if main:
        _describe(config, prepared.network, tokenizer, text_format)
    result = trainer.run()
    with GRAPH_LOCK:
        summary = trainer.objective.summary(trainer.decoder, main)
    if summary:
        log.info("%s", summary)
    return trainer, result


def evaluate_run(config: RunConfig) -> EvalResult:
    """Evaluate ``load_checkpoint`` on ``eval_dataset``.

    Raises:
        UserError: no checkpoint or dataset, or they do not fit.
    """
    if not config.load_checkpoint:
        raise UserError("eval needs weights: --load_checkpoint")
    comm = meet_cluster(config)
    loader = build_eval_loader(config, comm.mesh)
    network = config_from_section(config.model.settings)
    weights = fitting_weights(config.load_checkpoint, network)
    decoder = build_part(comm, network, empty=True)
    log.info("weights from %s", load_weights(decoder, weights).describe())
    return build_evaluation(decoder, loader, comm, objective_entry(config).load().metrics)()


def _prepare(
    config: RunConfig, request: TrainRequest, tokenizer: CodeTokenizer | None, text_format: TextFormat
) -> Prepared:
    """Data, checkpoint and weights of a run, compared with one another; arguments as of `train`."""
    comm = meet_cluster(config)
    loader = build_train_loader(config, tokenizer, micro_batches(config), comm.mesh)
    wants_eval = config.do_eval or bool(config.eval_dataset.data_loader.locations)
    eval_loader = build_eval_loader(config, comm.mesh) if wants_eval else None
    steps = total_steps(config, loader)
    resume_from = resume_source(config, request, comm)
    network = config_from_section(config.model.settings)
    start = _start_weights(config, network, resume_from)
    identity = _identity(config, network, steps, comm, loader, text_format, start)
    if resume_from is not None and comm.mesh.rank == 0:
        for line in compare(resume_from.state, identity, request.allowed, resume_from.folder):
            log.info(line)
    objective = build_objective(config, loader, comm.mesh)
    options = build_options(config, steps, eval_loader is not None, comm.mesh, identity, text_format)
    return Prepared(comm, network, loader, eval_loader, objective, options, resume_from, start)


def _needs_base(config: RunConfig) -> bool:
    """Whether a run depends on its start weights to the end, under an adapter or as a reference."""
    adapted = lora_options(config) is not None or prefix_options(config) is not None
    return adapted or objective_entry(config).needs_base


def _start_weights(
    config: RunConfig, network: TransformerConfig, resume_from: Checkpoint | None
) -> FittingWeights | None:
    """The weights to start from. Compared before anything is built, so that a different model fails at once.

    Raises:
        UserError: weights or checkpoint are of another model.
    """
    if resume_from is not None:
        check_architecture(resume_from.state, network, resume_from.folder)
    if config.load_checkpoint and (resume_from is None or _needs_base(config)):
        start = fitting_weights(config.load_checkpoint, network)
        if start.weights.quantization and lora_options(config) is None and prefix_options(config) is None:
            raise UserError(
                f"is quantized ({start.weights.quantization}), and integers are not trained: train an adapter on them "
                "(model.model_config.pet_config), or convert them to floating point",
                start.weights.path,
            )
        return start
    return None


def _identity(
    config: RunConfig,
    network: TransformerConfig,
    steps: int,
    comm: ProcessGroups,
    loader: Loader,
    text_format: TextFormat,
    start: FittingWeights | None,
) -> Identity:
    """Identity of the run; only rank 0 hashes data and weights."""
    schedule, mesh, cache = build_schedule(config, steps), comm.mesh, Path(config.output_dir) / DIGESTS
    content = content_digest(loader, cache) if mesh.rank == 0 else ""
    base = _base_digest(start, cache) if _needs_base(config) and mesh.rank == 0 else None
    return identity_of(config, network, schedule, mesh, content, text_format, steps, base)


def _base_digest(start: FittingWeights | None, cache: Path) -> str:
    """Digest of the weights that a run depends on throughout; cached by the state of their files."""
    if start is None:
        return NO_BASE
    return kept_digest(start.files, lambda: weights_digest(start.plans), cache, "base model")


def _build_trainer(
    config: RunConfig, prepared: Prepared, tokenizer: CodeTokenizer | None, listeners: Sequence[Callback]
) -> Trainer:
    """The trainer, resumed if that is asked for; arguments as of `train`."""
    comm, options, objective, loader = prepared.comm, prepared.options, prepared.objective, prepared.loader
    decoder = _start_decoder(config, prepared, tokenizer)
    optimizer = build_adamw(decoder, options, comm)
    data = DataLayout(loader.rows, loader.global_batch, options.accumulate, loader.lengths)
    callbacks, evaluation = build_callbacks(config, listeners), None
    step = build_step(decoder, optimizer, objective, options, comm)
    if prepared.eval_loader is not None:
        evaluation = build_evaluation(decoder, prepared.eval_loader, comm, objective.metrics)
    trainer = Trainer(
        decoder,
        loader,
        objective,
        step,
        Checkpointing(decoder, optimizer, data, options, comm),
        options,
        callbacks if comm.mesh.rank == 0 else [],
        evaluation,
        comm,
    )
    if prepared.resume_from is not None:
        trainer.resume(prepared.resume_from)
        if not trainer.finished:
            log.info("resuming after step %d from %s", trainer.step, prepared.resume_from.folder)
    return trainer


def _start_decoder(config: RunConfig, prepared: Prepared, tokenizer: CodeTokenizer | None) -> Decoder:
    """The network with its start weights, the objective prepared on it, and then the adapter."""
    comm, start, options = prepared.comm, prepared.start, prepared.options
    decoder = build_part(comm, prepared.network, config.seed, empty=start is not None)
    if start is not None:
        weights = load_weights(decoder, start)
        if weights.prefix is not None:
            raise UserError("is a prefix: train from the base model it belongs to", weights.path)
        log.info("weights from %s", weights.describe())
        if comm.mesh.rank == 0:
            own = tokenizer if config.processor.tokenizer.is_given else None
            copy_companions(*companions_beside(weights, own), Path(config.output_dir) / "tokenizer")
    state = "" if start is None else signature(start.files)
    prepared.objective.prepare(decoder, config, comm.mesh, state)
    add_adapter(decoder, options.lora or options.prefix, config)
    return decoder


def _describe(
    config: RunConfig, network: TransformerConfig, tokenizer: CodeTokenizer | None, text_format: TextFormat
) -> None:
    """Write what the run is, its tokenizer and its text format beside its output."""
    output = Path(config.output_dir)
    write_run_description(config, network, output)
    if tokenizer is not None and config.processor.tokenizer.is_given:
        tokenizer.save(output / "tokenizer")
    write_text_format(output / "tokenizer", text_format)


def _log_run_size(config: RunConfig, trainer: Trainer, start: FittingWeights | None) -> None:
    """Log model size, static memory and the cost of the first (compiling) step."""
    options, model, parameters = trainer.options, config.model.settings, trainer.decoder.config.num_parameters()
    added = added_shapes(options.lora or options.prefix, trainer.decoder.config)
    trained = sum(math.prod(shape) for shape in added.values()) or parameters
    frozen = 0 if trained == parameters else parameters * 4
    if start is not None and start.weights.quantization:
        frozen = sum(plan.with_dtype("F32").nbytes for plan in start.plans.values())
    log.info(
        "%.2f M parameters, %.2f GB with gradients and Adam's moments, activations not included",
        parameters / 1e6,
        (trained * BYTES_PER_PARAMETER + frozen) / 1e9,
    )
    log.info(
        "%d steps of %d x %d x %d tokens%s%s; the first one compiles the graph and takes longest",
        options.total_steps,
        options.accumulate,
        config.runner_config.batch_size,
        model.seq_length,
        f" on each of {trainer.mesh.data} processes" if trainer.mesh.data > 1 else "",
        f", every row divided over {trainer.mesh.context}" if trainer.mesh.context > 1 else "",
    )
