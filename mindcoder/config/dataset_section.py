"""``train_dataset`` and ``eval_dataset``: data sources and batching."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindcoder.sections import mindformers
from mindcoder.sections.section import Describes, Ignored, Ours, Size

IN_ORDER = "evaluation reads prepared rows in the file's order"


class DataLoaderSection(mindformers.DataLoaderSection):
    """``train_dataset.data_loader``: the MindRecord files."""

    type: Literal["MindDataset"] = Field("MindDataset", description="kind of dataset")
    dataset_dir: str = Field(
        "", description="MindRecord, JSON or JSONL: a file or a folder, or name:x of datasets/registry.yaml"
    )
    dataset_files: str | list[str] | None = Field(None, description="several files; dataset_dir has precedence")
    dataset_weights: Annotated[list[Annotated[float, Field(le=1e6)]] | None, Ours()] = Field(
        None, description="how often an epoch uses the rows of each of dataset_files; default: once"
    )
    shuffle: bool = Field(True, description="shuffle the rows anew in every epoch")
    streaming: Annotated[bool, Ours()] = Field(
        False, description="read JSON and JSONL while training; needs runner_config.max_steps"
    )
    fim_rate: Annotated[float, Ours()] = Field(
        0.0, ge=0, le=1, description="fraction of code documents that are rearranged for infilling (fill-in-the-middle)"
    )
    fim_spm_rate: Annotated[float, Ours()] = Field(
        0.5, ge=0, le=1, description="fraction of those with the suffix first (SPM)"
    )
    length_buckets: Annotated[list[Size], Ours()] = Field(
        [], description="lengths to which batches of short rows are cut; for datasets without packing"
    )
    columns: Annotated[str, Ours()] = Field(
        "", description="field names of JSON and JSONL, such as instruction=q,output=a; see docs/data.md"
    )
    record_format: Annotated[str, Ours()] = Field(
        "", description="record layout of JSON and JSONL; default: detected from the fields"
    )
    desirable_only: Annotated[bool, Ours()] = Field(
        False, description="of KTO records, use only the answers marked true"
    )

    @property
    def locations(self) -> list[str]:
        """Files or folders to read; empty if none is given."""
        if self.dataset_dir:
            return [self.dataset_dir]
        files = self.dataset_files or []
        return [files] if isinstance(files, str) else list(files)


class DatasetSection(mindformers.DatasetSection):
    """``train_dataset``, and the keys it shares with ``eval_dataset``."""

    data_loader: DataLoaderSection = Field(DataLoaderSection(), description="files and how they are read")
    drop_remainder: bool = Field(True, description="leave out the last rows of an epoch that fill no batch")


class EvalDataLoaderSection(DataLoaderSection):
    """``eval_dataset.data_loader``."""

    shuffle: Annotated[bool, Ignored(IN_ORDER)] = False
    streaming: Annotated[bool, Ignored(IN_ORDER)] = False
    fim_rate: Annotated[float, Ignored(IN_ORDER, (0.0,))] = 0.0
    fim_spm_rate: Annotated[float, Ignored(IN_ORDER, (0.5,))] = 0.5


class EvalDatasetSection(DatasetSection):
    """``eval_dataset``."""

    data_loader: EvalDataLoaderSection = Field(EvalDataLoaderSection(), description="files and how they are read")
    drop_remainder: Annotated[bool, Ignored(IN_ORDER)] = False


class DatasetTask(mindformers.DatasetTask):
    """``train_dataset_task``: must equal ``train_dataset``."""

    dataset_config: Annotated[DatasetSection | None, Describes("it repeats train_dataset")] = None


class EvalDatasetTask(mindformers.DatasetTask):
    """``eval_dataset_task``: must equal ``eval_dataset``."""

    dataset_config: Annotated[EvalDatasetSection | None, Describes("it repeats eval_dataset")] = None
