"""Reader of Hugging Face folders: ``config.json``, safetensors or ``.bin``, sharded or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from mindcoder.checkpoint.companions import find_companions
from mindcoder.checkpoint.huggingface_names import plans_to_ours
from mindcoder.checkpoint.mismatch import mismatch_error
from mindcoder.checkpoint.plan import FoundPlans, TensorPlan
from mindcoder.checkpoint.safetensors_file import list_safetensors
from mindcoder.checkpoint.stored_tensor import StoredTensor
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.checkpoint.torch_file import list_torch
from mindcoder.errors import UserError
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TOKEN_TABLES, TransformerConfig
from mindcoder.files import file_there, read_json_object

WEIGHT_FILES = (  # single file, index of shards
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


CONFIG_LIMIT = 4 << 20  # bytes of config.json; an id2label of a hundred thousand classes is the largest part


class HuggingFaceFolder:
    """A folder with ``config.json`` and weights; with ``file`` only that weight file is read.

    Attributes:
        folder: its path.
        config: the raw content of ``config.json``.
        transformer_config: our configuration built from it.
        tensors: every weight, by its name in the files.

    Raises:
        UserError: no config, no weights, a shard is missing or damaged, or the index names missing tensors.
    """

    def __init__(self, folder: str | Path, file: Path | None = None) -> None:
        self.folder = Path(folder)
        self.config, self.transformer_config = read_config(self.folder / "config.json")
        self.tensors = list_folder(self.folder) if file is None else list_tensors(file)


@dataclass(frozen=True, kw_only=True)
class HuggingFaceWeights(Weights):
    """Weights under Hugging Face's names: of a folder, or of one weight file in it."""

    kind = "huggingface"
    title = "Hugging Face folder"
    converts_to: ClassVar[Literal["huggingface", "mindcoder"]] = "mindcoder"

    @classmethod
    def open(cls, path: Path) -> HuggingFaceWeights:
        """Open a folder, or a file with ``config.json`` beside it.

        Raises:
            UserError: as `HuggingFaceFolder`.
        """
        folder = HuggingFaceFolder(path) if path.is_dir() else HuggingFaceFolder(path.parent, path)
        return cls(
            path=path,
            config=folder.transformer_config,
            tensors=folder.tensors,
            companions=find_companions(folder.folder),
            huggingface_config=folder.config,
        )

    def find_plans(self, config: TransformerConfig) -> FoundPlans:
        """The parameters by the family's weight table."""
        return plans_to_ours(self.tensors, config)

    def huggingface_plans(self) -> list[TensorPlan]:
        """Plans of the same tensors: each keeps its name, whatever else the files hold."""
        parameters = self.parameters()
        rules = family_of(self.config.model_type).weights.expand(self.config)
        tables = {rule.huggingface: rule.ours[0] for rule in rules if rule.ours[0] in TOKEN_TABLES}
        plans = []
        for name, tensor in self.tensors.items():
            table = next((ours for theirs, ours in tables.items() if theirs.endswith(name)), None)
            shape = parameters[table].shape if table else tensor.shape
            plans.append(TensorPlan(name, shape, tensor.dtype, (tensor,)))
        return plans


def list_folder(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a folder's weight files.

    Raises:
        UserError: there are none, or one is damaged.
    """
    for single, index in WEIGHT_FILES:
        if file_there(folder / index):
            return list_shards(folder / index)
        if file_there(folder / single):
            return list_tensors(folder / single)
    raise UserError("holds neither model.safetensors nor pytorch_model.bin, nor an index of shards", folder)


def list_shards(index: Path) -> dict[str, StoredTensor]:
    """Every tensor of the shards that an index names.

    Raises:
        UserError: it is not an index, a shard is missing or damaged, or does not hold what the index says.
    """
    weight_map = read_weight_map(index)
    shards = sorted({index.with_name(name) for name in weight_map.values()})
    tensors = {name: tensor for shard in shards for name, tensor in list_tensors(shard).items()}
    wrong = [
        f"{name} in {file}"
        for name, file in weight_map.items()
        if name not in tensors or tensors[name].file.name != file
    ]
    if wrong:
        raise mismatch_error(index, {"named but not there": wrong})
    unnamed = [name for name in tensors if name not in weight_map]
    if unnamed:
        raise mismatch_error(index, {"in the shards but not named": unnamed})
    return tensors


def read_weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file name of its shard, from an index file; checks that every shard exists.

    Raises:
        UserError: it is not an index, or a shard is missing.
    """
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("is not a weight index: weight_map is missing, or is not an object of tensor -> file", index)
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
            raise UserError(f"weight_map: {tensor[:60]!r} lies in {name!r:.60}, expected the name of a file", index)
    for name in sorted(set(weight_map.values())):
        if not file_there(index.with_name(name)):
            raise UserError(f"shard is missing, {index.name} names it", index.with_name(name))
    return weight_map


def list_tensors(file: Path) -> dict[str, StoredTensor]:
    """Tensors of a weight file, whose format is known from its suffix."""
    return list_torch(file) if file.suffix in (".bin", ".pt", ".pth") else list_safetensors(file)


def read_config(file: Path) -> tuple[dict[str, Any], TransformerConfig]:
    """``config.json`` and the configuration built from it.

    Raises:
        UserError: it is missing, is not JSON, or describes an unsupported model.
    """
    if not file_there(file):
        raise UserError("is not a Hugging Face folder: config.json is missing", file.parent)
    values = read_json_object(file, CONFIG_LIMIT)
    return values, config_of(values, file)


def config_of(values: Mapping[str, Any], file: Path) -> TransformerConfig:
    """The configuration built from the content of a ``config.json``.

    Raises:
        UserError: it describes an unsupported model.
    """
    try:
        return family_of(values.get("model_type", "")).config_from_huggingface(values)
    except ValueError as error:
        raise UserError(str(error), file) from None
