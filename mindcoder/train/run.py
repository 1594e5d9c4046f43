"""Sets up a training or evaluation run from a validated configuration."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from mindcoder.checkpoint.companions import copy_companions
from mindcoder.checkpoint.end_tokens import companions_beside
from mindcoder.checkpoint.fingerprint import weight_files, weights_digest
from mindcoder.checkpoint.load import FittingWeights, check_architecture, fitting_weights, load_weights
from mindcoder.checkpoint.store import (
    Checkpoint,
    find_checkpoint,
    list_steps,
    newest_checkpoint,
    open_step,
    step_folder,
)
from mindcoder.config.schema import Callback as CallbackSection
from mindcoder.config.schema import RunConfig
from mindcoder.data.content import content_digest, kept_digest, signature
from mindcoder.data.loader import BatchLoader, Loader
from mindcoder.data.text_format import UNKNOWN, TextFormat, write_text_format
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.graph_lock import GRAPH_LOCK
from mindcoder.models.decoder import Decoder
from mindcoder.models.preference_loss import PreferenceOptions
from mindcoder.parallel.cluster import build_part, meet_cluster
from mindcoder.parallel.data_parallel import HostCollectives
from mindcoder.parallel.process_groups import ProcessGroups
from mindcoder.peft.from_section import lora_options, prefix_options
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LORA_A, LoraOptions, PrefixOptions
from mindcoder.peft.prefix import add_prefix
from mindcoder.planning.memory import BYTES_PER_PARAMETER
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.train.callbacks.base import Callback
from mindcoder.train.callbacks.console import ConsoleProgress
from mindcoder.train.callbacks.curve import CurveFiles
from mindcoder.train.callbacks.tensorboard import TensorBoard
from mindcoder.train.callbacks.trackers import TRACKERS, tracker
from mindcoder.train.datasets import build_loader, build_stream, head_tokens
from mindcoder.train.description import write_run_description
from mindcoder.train.divided_check import DividedCheck
from mindcoder.train.evaluate import EvalResult, build_eval_step, evaluate
from mindcoder.train.from_section import build_loss_scale, build_optimizer, build_schedule
from mindcoder.train.health import HealthOptions
from mindcoder.train.identity import NO_BASE, compare, identity_of
from mindcoder.train.options import TrainOptions
from mindcoder.train.reference import preferred, reference_logprobs, score_pairs
from mindcoder.train.request import TrainRequest
from mindcoder.train.trainer import Trainer

log = logging.getLogger(__name__)


def micro_batches(config: RunConfig) -> int:
    """Micro batches per update: ``gradient_accumulation_steps``, times ``micro_batch_num`` in a pipeline."""
    mesh = config.parallel_config
    in_pipeline = config.use_parallel and mesh.pipeline_stage > 1
    return config.runner_config.gradient_accumulation_steps * ((mesh.micro_batch_num or 1) if in_pipeline else 1)


def _checkpoint_callback(config: RunConfig) -> CallbackSection:
    found = [item for item in config.callbacks if item.kind == "CheckpointMonitor"]
    return found[0] if found else CallbackSection(type="CheckpointMonitor")


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
        trainer, pairs = _set_up(config, request, tokenizer, text_format, listeners)
    if trainer.finished:
        log.info(
            "nothing to do: step %d of %d is done; raise runner_config.max_steps or runner_config.epochs to continue",
            *(trainer.step, trainer.options.total_steps),
        )
        return trainer, None
    _log_run_size(config, trainer)
    main = trainer.mesh.rank == 0
    if main:
        output = Path(config.output_dir)
        write_run_description(config, trainer.decoder.config, output)
        if tokenizer is not None and config.processor.tokenizer.is_given:
            tokenizer.save(output / "tokenizer")
        write_text_format(output / "tokenizer", text_format)
    result = trainer.run()
    if pairs is not None:
        with GRAPH_LOCK:
            share = preferred(score_pairs(trainer.decoder, pairs, "pairs", main), trainer.reference)
        log.info("the chosen answer is the likelier one in %.1f %% of the %d pairs", 100 * share, pairs.rows)
    return trainer, result


def _set_up(
    config: RunConfig,
    request: TrainRequest,
    tokenizer: CodeTokenizer | None,
    text_format: TextFormat,
    listeners: Sequence[Callback],
) -> tuple[Trainer, BatchLoader | None]:
    """The trainer, resumed if that is asked for, and the pairs of preference tuning; arguments as of `train`."""
    runner, output = config.runner_config, Path(config.output_dir)
    root = output / "checkpoint"
    comm = meet_cluster(config)
    mesh = comm.mesh
    section = config.train_dataset
    accumulate, streams = micro_batches(config), section.data_loader.streaming
    loader: Loader
    if streams:
        loader = build_stream(config, tokenizer, accumulate, mesh)
    else:
        loader = build_loader(config, section, section.data_loader.shuffle, section.drop_remainder, mesh)
    wants_eval = config.do_eval or bool(config.eval_dataset.data_loader.locations)
    eval_loader = build_loader(config, config.eval_dataset, False, False, mesh) if wants_eval else None
    steps = loader.batches_per_epoch * (1 if streams else runner.epochs) // accumulate
    if runner.max_steps is not None:
        steps = min(steps, runner.max_steps)
    if steps == 0:
        raise UserError(
            f"{loader.batches_per_epoch} batches are fewer than the {accumulate} of one update "
            "(gradient_accumulation_steps, times micro_batch_num in a pipeline)"
        )
    resume_from = _resume_source(config, request, root, comm)
    network, schedule = config_from_section(config.model.settings), build_schedule(config, steps)
    lora, prefix, preference = lora_options(config), prefix_options(config), preference_options(config)
    needs_base = lora is not None or prefix is not None or preference is not None
    if resume_from is not None:
        check_architecture(resume_from.state, network, resume_from.folder)
    start = None  # compared before anything is built, so that a different model fails at once
    if config.load_checkpoint and (resume_from is None or needs_base):
        start = fitting_weights(config.load_checkpoint, network)
    content = content_digest(loader, output / "digests.json") if mesh.rank == 0 else ""
    base = _base_digest(start, output / "digests.json") if needs_base and mesh.rank == 0 else None
    identity = identity_of(config, network, schedule, mesh, content, text_format, steps, base)
    if resume_from is not None and mesh.rank == 0:
        for line in compare(resume_from.state, identity, request.allowed, resume_from.folder):
            log.info(line)
    saving = _checkpoint_callback(config)
    selects_labels = config.preference is None and mesh.pipeline == 1
    options = TrainOptions(
        total_steps=steps,
        epochs=runner.epochs,
        accumulate=accumulate,
        max_grad_norm=config.runner_wrapper.max_grad_norm if config.runner_wrapper.use_clip_grad else 0.0,
        seed=config.seed,
        save_every=saving.save_checkpoint_steps or 0,
        keep=saving.keep_checkpoint_max,
        eval_every=max(config.eval_step_interval, 0) if eval_loader else 0,
        checkpoint_root=root,
        recompute=bool(config.recompute_config.recompute),
        shard_optimizer=bool(config.parallel_config.optimizer_shard) and mesh.data > 1,
        lora=lora,
        prefix=prefix,
        preference=preference,
        identity=identity,
        text_format=text_format,
        peak_tflops=runner.peak_tflops or 0.0,
        head_tokens=head_tokens(loader, runner.epochs) if selects_labels else None,
        health=HealthOptions(**config.loss_health.model_dump()),
        base=str(Path(config.load_checkpoint).resolve()) if config.load_checkpoint else "",
    )
    decoder = build_part(comm, network, config, config.seed)
    if options.preference is not None:
        check_preference(config, loader)
    elif loader.holds_pairs:
        raise UserError("the dataset holds pairs of answers: add a preference section (type: dpo)")
    if start is not None:
        weights = load_weights(decoder, start)
        if weights.prefix is not None:
            raise UserError("is a prefix: train from the base model it belongs to", weights.path)
        log.info("weights from %s", weights.describe())
        if mesh.rank == 0:
            own = tokenizer if config.processor.tokenizer.is_given else None
            copy_companions(*companions_beside(weights, own), output / "tokenizer")
    reference, pairs = None, None
    if options.preference is not None:
        pairs = build_loader(config, section, False, False)  # all of them on every process, in file order
        if options.preference.kind == "dpo":
            source = f"{config.load_checkpoint} {_state_of(start)} {config.seed} {signature(pairs.files)}"
            reference = reference_logprobs(decoder, pairs, source, output / f"reference-{mesh.rank}.npz")
    if options.lora is not None:
        _add_lora(decoder, options.lora, config.seed)
    if options.prefix is not None:
        _add_prefix(decoder, options.prefix, config)
    printing = next((item.per_print_times for item in config.callbacks if item.type == "MFLossMonitor"), 10)
    callbacks: list[Callback] = [
        ConsoleProgress(printing),
        CurveFiles(output / "curves"),
        TensorBoard(output / "tensorboard"),
    ]
    callbacks += [
        tracker(item.type, item.project, item.online, output, config.model_dump(exclude_none=True))
        for item in config.callbacks
        if item.type in TRACKERS
    ]
    callbacks += listeners
    trainer = Trainer(
        decoder,
        loader,
        build_optimizer(config),
        schedule,
        build_loss_scale(config),
        options,
        callbacks if mesh.rank == 0 else [],
        eval_loader,
        comm,
        reference,
    )
    if resume_from is not None:
        trainer.resume(resume_from)
        if not trainer.finished:
            log.info("resuming after step %d from %s", trainer.step, resume_from.folder)
    return trainer, pairs


def _base_digest(start: FittingWeights | None, cache: Path) -> str:
    """Digest of the weights that a run depends on throughout; cached by the state of their files."""
    if start is None:
        return NO_BASE
    return kept_digest(
        weight_files(start.weights, start.plans), lambda: weights_digest(start.plans), cache, "base model"
    )


def _state_of(start: FittingWeights | None) -> str:
    """State of the files that weights are read from."""
    return "" if start is None else signature(weight_files(start.weights, start.plans))


def preference_options(config: RunConfig) -> PreferenceOptions | None:
    """Options of ``preference``; None without it."""
    section = config.preference
    if section is None:
        return None
    return PreferenceOptions(section.type, section.beta, section.gamma, section.label_smoothing)


def check_preference(config: RunConfig, loader: Loader) -> None:
    """Check that preference tuning has a dataset of pairs, a model to start from, all layers and the whole vocabulary.

    Raises:
        UserError: one of them is missing.
    """
    layout = config.parallel_config
    if config.use_parallel and layout.pipeline_stage > 1:
        raise UserError("preference: not supported with pipeline parallelism; parallel_config.pipeline_stage must be 1")
    if config.use_parallel and layout.model_parallel > 1 and layout.vocab_emb_dp is False:
        raise UserError("preference: pairs need whole logits; leave parallel_config.vocab_emb_dp at True")
    if not loader.holds_pairs:
        raise UserError("preference: the dataset holds no pairs; preprocess it with --pairs")
    if config.train_dataset.data_loader.dataset_weights is not None:
        raise UserError("preference: dataset_weights are not supported for pairs")
    if not config.load_checkpoint:
        raise UserError("preference: pairs need a model to start from: --load_checkpoint")


def _add_lora(decoder: Decoder, lora: LoraOptions, seed: int) -> None:
    """Add the LoRA adapter and log its share of the parameters."""
    try:
        add_lora(decoder, lora, seed)
    except ValueError as error:
        raise UserError(f"model.model_config.pet_config.target_modules: {error}") from None
    linears = sum(name.endswith(LORA_A) for name in decoder.adapter_shapes)
    _log_trainable_share(
        f"{'DoRA' if lora.magnitudes else 'LoRA'} rank {lora.rank} on {linears} linear layers", decoder
    )


def _add_prefix(decoder: Decoder, prefix: PrefixOptions, config: RunConfig) -> None:
    """Add the prefix and log its share of the parameters."""
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
    _log_trainable_share(f"a prefix of {prefix.tokens} tokens in {network.num_layers} layers", decoder)


def _log_trainable_share(what: str, decoder: Decoder) -> None:
    """Log the share of trainable parameters."""
    trained = sum(math.prod(shape) for shape in decoder.adapter_shapes.values())
    total = decoder.config.num_parameters() + trained
    log.info("%s: %d of %d parameters are trained (%.3f %%)", what, trained, total, 100 * trained / total)


def _log_run_size(config: RunConfig, trainer: Trainer) -> None:
    """Log model size, static memory and the cost of the first (compiling) step."""
    options, model, parameters = trainer.options, config.model.settings, trainer.decoder.config.num_parameters()
    trained = sum(math.prod(shape) for shape in trainer.decoder.adapter_shapes.values()) or parameters
    log.info(
        "%.2f M parameters, %.2f GB with gradients and Adam's moments, activations not included",
        parameters / 1e6,
        (trained * BYTES_PER_PARAMETER + (parameters * 4 if trained != parameters else 0)) / 1e9,
    )
    log.info(
        "%d steps of %d x %d x %d tokens%s; the first one compiles the graph and takes longest",
        options.total_steps,
        options.accumulate,
        config.runner_config.batch_size,
        model.seq_length,
        f" on each of {trainer.mesh.data} processes" if trainer.mesh.data > 1 else "",
    )


def _resume_source(config: RunConfig, request: TrainRequest, root: Path, comm: ProcessGroups) -> Checkpoint | None:
    """The checkpoint that all processes resume from, or None for a fresh start; rank 0 finds it."""
    location, mesh = _resume_location(config, request, root), comm.mesh
    check = DividedCheck(HostCollectives(comm), mesh.rank, mesh.size)
    if mesh.rank > 0:
        folder = root if location is None else location
        step = check.follow(lambda step: step_folder(folder, step))
        return None if step is None else open_step(folder, step)
    found: Checkpoint | None = None
    if location is None:
        _remove_old_checkpoints(root, request)
    elif location == root:
        found = newest_checkpoint(root, check)
        if found is None:
            log.warning("%s has no complete checkpoint: starting from scratch", root)
    else:
        found = find_checkpoint(location, check)
        if found is None:
            raise UserError("holds weights but no training state to resume", location)
    check.settle(found)
    return found


def _resume_location(config: RunConfig, request: TrainRequest, root: Path) -> str | Path | None:
    """Where to look for a checkpoint; None for a fresh start."""
    if isinstance(config.resume_training, str):
        return config.resume_training
    # that is the base of an adapter
    if config.resume_training and config.load_checkpoint and lora_options(config) is None:
        return config.load_checkpoint
    return root if request.resume or config.resume_training else None


def _remove_old_checkpoints(root: Path, request: TrainRequest) -> None:
    """Remove the checkpoints of an earlier run if the request allows it.

    Raises:
        UserError: it does not.
    """
    steps = list_steps(root)
    if steps and not request.overwrite:
        raise UserError(
            f"already holds checkpoints up to {steps[-1].name}: add --resume to continue, --overwrite to "
            "start anew, or give another output_dir",
            root,
        )
    for folder in steps:
        shutil.rmtree(folder)


def evaluate_run(config: RunConfig) -> EvalResult:
    """Evaluate ``load_checkpoint`` on ``eval_dataset``.

    Raises:
        UserError: no checkpoint or dataset, or they do not fit.
    """
    if not config.load_checkpoint:
        raise UserError("eval needs weights: --load_checkpoint")
    comm = meet_cluster(config)
    loader = build_loader(config, config.eval_dataset, False, False, comm.mesh)
    network = config_from_section(config.model.settings)
    weights = fitting_weights(config.load_checkpoint, network)
    decoder = build_part(comm, network, config, empty=True)
    log.info("weights from %s", load_weights(decoder, weights).describe())
    return evaluate(build_eval_step(decoder, comm), loader, comm.mesh.rank == 0, HostCollectives(comm))
