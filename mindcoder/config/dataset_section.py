"""``train_dataset`` and ``eval_dataset``: data sources and batching."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mindcoder.config import mindformers
from mindcoder.config.section import Describes, Ignored, Size

IN_ORDER = "evaluation reads prepared rows in the file's order"


class DataLoaderSection(mindformers.DataLoaderSection):
    """``train_dataset.data_loader``: the MindRecord files."""

    type: Literal["MindDataset"] = "MindDataset"
    dataset_dir: str = ""
    dataset_files: str | list[str] | None = None
    dataset_weights: list[Annotated[float, Field(le=1e6)]] | None = Field(
        None, description="how often an epoch takes the rows of each of dataset_files; default: once"
    )
    shuffle: bool = True
    streaming: bool = Field(False, description="stream JSON and JSONL during training; needs runner_config.max_steps")
    fim_rate: float = Field(0.0, ge=0, le=1, description="share of code documents rearranged for fill-in-the-middle")
    fim_spm_rate: float = Field(0.5, ge=0, le=1, description="share of those in SPM order (suffix first)")
    length_buckets: list[Size] = Field(
        [], description="lengths to which batches of short rows are truncated; for datasets without packing"
    )
    columns: str = Field("", description="field names of text files, such as instruction=q,output=a; see docs/data.md")
    record_format: str = Field("", description="record layout of text files; default: detected from the fields")
    desirable_only: bool = Field(False, description="of KTO records, learn only the answers marked true")

    @property
    def locations(self) -> list[str]:
        """Files or folders to read; empty if none is given."""
        if self.dataset_dir:
            return [self.dataset_dir]
        files = self.dataset_files or []
        return [files] if isinstance(files, str) else list(files)


class DatasetSection(mindformers.DatasetSection):
    """``train_dataset``, and the keys it shares with ``eval_dataset``."""

    data_loader: DataLoaderSection = DataLoaderSection()
    drop_remainder: bool = True


class EvalDataLoaderSection(DataLoaderSection):
    """``eval_dataset.data_loader``."""

    shuffle: Annotated[bool, Ignored(IN_ORDER)] = False
    streaming: Annotated[bool, Ignored(IN_ORDER)] = False
    fim_rate: Annotated[float, Ignored(IN_ORDER, (0.0,))] = 0.0
    fim_spm_rate: Annotated[float, Ignored(IN_ORDER, (0.5,))] = 0.5


class EvalDatasetSection(DatasetSection):
    """``eval_dataset``."""

    data_loader: EvalDataLoaderSection = EvalDataLoaderSection()
    drop_remainder: Annotated[bool, Ignored(IN_ORDER)] = False


class DatasetTask(mindformers.DatasetTask):
    """``train_dataset_task``: must equal ``train_dataset``."""

    dataset_config: Annotated[DatasetSection | None, Describes("it repeats train_dataset")] = None


class EvalDatasetTask(mindformers.DatasetTask):
    """``eval_dataset_task``: must equal ``eval_dataset``."""

    dataset_config: Annotated[EvalDatasetSection | None, Describes("it repeats eval_dataset")] = None
