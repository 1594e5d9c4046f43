"""What all folders of quantized weights have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.companions import find_companions
from mindcoder.checkpoint.huggingface import HuggingFaceWeights, config_of
from mindcoder.checkpoint.huggingface_names import split_plans
from mindcoder.checkpoint.kv_scales import KvScales
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.quantized.kv_tensors import KvTensors
from mindcoder.checkpoint.quantized.nf4_tensor import Nf4Tensor
from mindcoder.checkpoint.quantized.tensors import QuantizedTensor
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES, StoredTensor
from mindcoder.errors import UserError
from mindcoder.families.parameter_names import INPUT, ParameterName
from mindcoder.families.registry import family_of
from mindcoder.families.transformer_config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class QuantizedWeights(HuggingFaceWeights):
    """Weights under Hugging Face's names, some of them in integers.

    `parameters` and `huggingface_plans` give every weight in floating point, computed when it is read;
    `stored_parameters` give linear layers as they are stored.

    Attributes:
        quantized: by Hugging Face's name of the module.
        kv_tensors: scales of the KV cache, by layer; empty if the folder has none.
    """

    converts_to = "huggingface"

    quantized: Mapping[str, QuantizedTensor] | Mapping[str, Nf4Tensor]
    kv_tensors: Mapping[int, KvTensors] = field(default_factory=dict)

    def kv_scales(self) -> dict[int, KvScales]:
        """See `Weights.kv_scales`."""
        return {layer: tensors.read() for layer, tensors in self.kv_tensors.items()}

    @property
    def has_kv_scales(self) -> bool:
        """See `Weights.has_kv_scales`."""
        return bool(self.kv_tensors)

    @property
    def quantization(self) -> str:
        """How the weights are kept: ``W8A16``, ``W4A16 in groups of 128``."""
        kinds: dict[str, set[int]] = {}
        for tensor in (item for item in self.quantized.values() if item.kind):
            kinds.setdefault(tensor.kind, set()).update({tensor.group_size} - {0})
        return ", ".join(
            kind + (f" in groups of {' or '.join(map(str, sorted(sizes)))}" if sizes else "")
            for kind, sizes in sorted(kinds.items())
        )

    def stored_parameters(self, config: TransformerConfig) -> dict[str, TensorPlan]:
        """See `Weights.stored_parameters`."""
        plans = self.parameters(config)
        linears = config.linear_shapes()
        for rule in family_of(config.model_type).weights.expand(config):
            module = rule.huggingface.removesuffix(".weight")
            tensor = self.quantized.get(module) or self.quantized.get(self._bare(module, config))
            if tensor is None or not tensor.kind:
                continue
            if not all(ParameterName.parse(name).module in linears for name in rule.ours):
                continue  # an embedding or a head, which the network keeps in floating point
            for part, stored in tensor.parts(rule.split is None).items():
                ours = tuple(f"{name.removesuffix('weight')}{part}" for name in rule.ours)
                split = split_plans(replace(rule, ours=ours), stored, config)
                floats = None if part == "weight" else "F32"
                plans.update({name: plan.with_dtype(floats) for name, plan in split.items()})
            rounding = tensor.input
            if rounding is not None:
                names = [f"{name.removesuffix('weight')}{INPUT}" for name in rule.ours]
                plans.update({name: TensorPlan(name, rounding.shape, "F32", (rounding,)) for name in names})
        return plans

    def _bare(self, module: str, config: TransformerConfig) -> str:
        """Its name in files of the bare transformer."""
        return module.removeprefix(family_of(config.model_type).weights.prefix)

    def describe(self) -> str:
        """A line for the log."""
        return f"{super().describe()} ({self.quantization})"


def folder_of(
    path: Path,
    values: dict[str, Any],
    tensors: Mapping[str, StoredTensor],
    used: Collection[str],
    quantized: Mapping[str, QuantizedTensor] | Mapping[str, Nf4Tensor],
    biases: Mapping[str, StoredTensor] = {},
) -> dict[str, Any]:
    """The attributes of `QuantizedWeights` for a folder.

    Args:
        values: ``config.json`` of the model in floating point.
        tensors: all of the folder's.
        used: names of those that belong to quantized modules.
        quantized: these modules.
        biases: those that are stored otherwise than as ``bias``, by the module's name.

    Raises:
        UserError: another tensor has integers, or ``config.json`` describes an unsupported model.
    """
    floats = {name: tensor for name, tensor in tensors.items() if name not in used}
    for name, tensor in floats.items():
        if tensor.dtype not in (*FLOAT_DTYPES, "BOOL"):
            raise UserError(f"{name} has dtype {tensor.dtype}, and belongs to no quantized module", tensor.file)
    for module in quantized:
        if f"{module}.weight" in floats:
            raise UserError(
                f"{module} has both a weight in floating point and a quantized one: remove one of them", path
            )
    weights = {f"{module}.weight": tensor.as_weight(f"{module}.weight") for module, tensor in quantized.items()}
    return {
        "path": path,
        "config": config_of(values, path / "config.json"),
        "tensors": {**floats, **weights, **{f"{module}.bias": bias for module, bias in biases.items()}},
        "companions": find_companions(path),
        "huggingface_config": values,
        "quantized": quantized,
    }


def biased_modules(config: TransformerConfig) -> set[str]:
    """Names of the modules that have a bias in a network of ``config``, with and without the whole model's prefix."""
    table = family_of(config.model_type).weights
    names = [rule.huggingface for rule in table.expand(config) if rule.huggingface.endswith(".bias")]
    modules = {name.removesuffix(".bias") for name in names}
    return modules | {name.removeprefix(table.prefix) for name in modules}


def module_parts(
    module: str, parts: Sequence[str], tensors: Mapping[str, StoredTensor], kind: str, path: Path
) -> dict[str, StoredTensor]:
    """A module's tensors by their names within it.

    Raises:
        UserError: one is missing; says for which ``kind`` of weights.
    """
    for part in parts:
        if f"{module}.{part}" not in tensors:
            raise UserError(f"{module}.{part} is missing ({kind})", path)
    return {part: tensors[f"{module}.{part}"] for part in parts}


def modules_with(
    marker: str, parts: Sequence[str], tensors: Mapping[str, StoredTensor], kind: str, path: Path
) -> dict[str, dict[str, StoredTensor]]:
    """`module_parts` of every module that has a tensor ``marker``, by the module's name.

    Raises:
        UserError: as `module_parts`.
    """
    found = [module for module, _, part in (name.rpartition(".") for name in tensors) if part == marker]
    return {module: module_parts(module, parts, tensors, kind, path) for module in found}


def check_quantized(tensor: QuantizedTensor) -> None:
    """Check that integers, scales and offsets fit each other.

    Raises:
        UserError: names the tensor and its shape.
    """
    rows, columns = tensor.shape
    for part in (tensor.scale, tensor.offset):
        if part is None:
            continue
        fits = len(part.shape) == 2 and part.shape[0] == rows and part.shape[1] and columns % part.shape[1] == 0
        if not fits:
            raise UserError(
                f"{part.name} has shape {list(part.shape)}, expected [{rows}, groups] for a weight of "
                f"{rows} outputs and {columns} inputs",
                part.file,
            )
    if tensor.offset is not None and tensor.offset.shape != tensor.scale.shape:
        raise UserError(
            f"{tensor.offset.name} has shape {list(tensor.offset.shape)}, {tensor.scale.name} "
            f"{list(tensor.scale.shape)}: expected the same",
            tensor.offset.file,
        )
