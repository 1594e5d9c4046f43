"""Builds the data loaders of a run from a validated configuration."""

from __future__ import annotations

from mindcoder.config.dataset_section import DataLoaderSection, DatasetSection
from mindcoder.config.layout import active_layout
from mindcoder.config.schema import RunConfig
from mindcoder.data.infill import InfillOptions
from mindcoder.data.loader import BatchLoader, Loader
from mindcoder.data.prepared import is_text
from mindcoder.data.readers import FORMATS, Reading, parse_columns
from mindcoder.data.stream import StreamLoader, StreamOptions
from mindcoder.errors import UserError
from mindcoder.parallel.mesh import SINGLE, Mesh
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.train.objectives.registry import objective_entry


def build_loader(
    config: RunConfig, section: DatasetSection, shuffle: bool, drop_remainder: bool, mesh: Mesh = SINGLE
) -> BatchLoader:
    """This rank's part of the batches of ``train_dataset`` or ``eval_dataset``.

    Raises:
        UserError: no dataset is given, or it does not fit the model.
    """
    locations = section.data_loader.locations
    if not locations:
        raise UserError(
            "no dataset: give --train_data (or --eval_dataset), or data_loader.dataset_dir in the YAML file"
        )
    model, data = config.model.settings, section.data_loader
    _check_weights(data)
    if data.length_buckets and active_layout(config).pipeline > 1:
        raise UserError("length_buckets: the stages of a pipeline exchange rows of one length; use packing there")
    return BatchLoader(
        locations,
        config.runner_config.batch_size,
        model.seq_length,
        model.vocab_size,
        shuffle=shuffle,
        seed=config.seed,
        drop_remainder=drop_remainder,
        rank=mesh.data_index,
        world=mesh.data,
        weights=data.dataset_weights,
        buckets=data.length_buckets,
    )


def build_train_loader(config: RunConfig, tokenizer: CodeTokenizer | None, accumulate: int, mesh: Mesh) -> Loader:
    """This rank's part of ``train_dataset``, prepared or streamed.

    Args:
        tokenizer: for data that are streamed.
        accumulate: micro batches per update.

    Raises:
        UserError: see `build_loader` and `build_stream`.
    """
    section = config.train_dataset
    if section.data_loader.streaming:
        return build_stream(config, tokenizer, accumulate, mesh)
    return build_loader(config, section, section.data_loader.shuffle, section.drop_remainder, mesh)


def build_eval_loader(config: RunConfig, mesh: Mesh) -> BatchLoader:
    """This rank's part of ``eval_dataset``, in file order.

    Raises:
        UserError: see `build_loader`.
    """
    return build_loader(config, config.eval_dataset, False, False, mesh)


def build_stream(config: RunConfig, tokenizer: CodeTokenizer | None, accumulate: int, mesh: Mesh) -> StreamLoader:
    """Stream ``train_dataset`` from text files during training.

    Raises:
        UserError: it is not text, the length of the run is not given, or there is no tokenizer for it.
    """
    data, model = config.train_dataset.data_loader, config.model.settings
    binary = [location for location in data.locations if not is_text(location)]
    if binary:
        raise UserError("streaming reads .json and .jsonl; MindRecord is always read incrementally", binary[0])
    if config.runner_config.max_steps is None:
        raise UserError("streaming: a stream is endless, set the number of updates with runner_config.max_steps")
    if tokenizer is None:
        raise UserError("streaming needs a tokenizer: --vocab_file, or one beside --load_checkpoint")
    objective = objective_entry(config)
    if objective.takes_pairs or data.length_buckets:
        other = objective.section if objective.takes_pairs else "length_buckets"
        raise UserError(f"streaming and {other} cannot be combined: remove streaming")
    _check_weights(data)
    options = StreamOptions(
        model.seq_length,
        config.processor.prompt_template,
        infill_options(data, config.seed),
        config.runner_config.max_steps * accumulate,
        config.runner_config.batch_size,
        data.shuffle,
        config.seed,
        data.dataset_weights,
        mesh.data_index,
        mesh.data,
        reading_of(data),
    )
    return StreamLoader(data.locations, tokenizer, options)


def reading_of(data: DataLoaderSection, section: str = "train_dataset") -> Reading:
    """How to read records of text files: ``columns``, ``record_format`` and ``desirable_only``.

    Raises:
        UserError: these are invalid, or there is no text to read.
    """
    key = f"{section}.data_loader"
    if data.record_format not in ("", *FORMATS):
        raise UserError(f"{key}.record_format: expected one of {', '.join(FORMATS)}, found {data.record_format[:40]!r}")
    try:
        reading = Reading(parse_columns(data.columns), data.record_format, data.desirable_only)
    except ValueError as error:
        raise UserError(f"{key}.columns: {error}") from None
    return reading


def infill_options(data: DataLoaderSection, seed: int) -> InfillOptions:
    """Fill-in-the-middle options ``fim_rate`` and ``fim_spm_rate``."""
    return InfillOptions(data.fim_rate, data.fim_spm_rate, seed)


def _check_weights(data: DataLoaderSection) -> None:
    weights, files = data.dataset_weights, len(data.locations)
    if weights is not None and (len(weights) != files or min(weights) < 0 or max(weights) == 0):
        raise UserError(
            f"dataset_weights: expected a number of 0 or more for each of the {files} dataset_files, found {weights}"
        )
