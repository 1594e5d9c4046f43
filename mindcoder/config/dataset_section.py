"""``train_dataset`` and ``eval_dataset``: where the data are, and how they become batches."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mindcoder.config.section import Section


class DataLoaderSection(Section):
    """``train_dataset.data_loader``: where the MindRecord files are."""

    type: Literal["MindDataset"] = "MindDataset"
    dataset_dir: str = ""
    dataset_files: str | list[str] | None = None
    dataset_weights: list[float] | None = Field(
        None, description="how often an epoch takes the rows of each of dataset_files; default: once"
    )
    shuffle: bool = True
    streaming: bool = Field(False, description="read JSON and JSONL while training; needs runner_config.max_steps")
    fim_rate: float = Field(0.0, ge=0, le=1, description="share of code documents to learn infilling from")
    fim_spm_rate: float = Field(0.5, ge=0, le=1, description="of those, suffix first")
    length_buckets: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="lengths to which batches of short rows are cut; for datasets without packing"
    )
    path: str | None = None
    phase: str | None = None

    @property
    def locations(self) -> list[str]:
        """Files or folders to read; empty when none is given."""
        if self.dataset_dir:
            return [self.dataset_dir]
        files = self.dataset_files or []
        return [files] if isinstance(files, str) else list(files)


class DatasetSection(Section):
    """``train_dataset`` and ``eval_dataset``."""

    data_loader: DataLoaderSection = DataLoaderSection()
    input_columns: list[str] | None = None
    output_columns: list[str] | None = None
    column_order: list[str] | None = None
    construct_args_key: list[str] | None = None
    tokenizer: dict[str, Any] | None = None
    num_parallel_workers: int = Field(1, ge=1)
    python_multiprocessing: bool | None = None
    drop_remainder: bool = True
    batch_size: int | None = Field(None, ge=1, description="runner_config.batch_size wins")
    repeat: int = 1
    numa_enable: bool | None = None
    prefetch_size: int | None = None
    seed: int | None = None
    auto_tune: bool | None = None
    filepath_prefix: str | None = None
    autotune_per_step: int | None = None
    profile: bool | None = None
    eod_reset: bool | None = None
    eod_token_id: int | None = None
    dynamic_batch: bool | None = None


class DatasetTask(Section):
    """``train_dataset_task``: MindFormers' wrapper around a dataset section."""

    type: str = "CausalLanguageModelDataset"
    dataset_config: DatasetSection | None = None
