"""Maps local shards to global tensors when saving and loading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from mindspore import Parameter, Tensor

from mindcoder.checkpoint.mismatch import mismatch_error
from mindcoder.checkpoint.plan import TensorPlan
from mindcoder.checkpoint.shards import Shard
from mindcoder.families.parameter_names import split_layer
from mindcoder.models.decoder import Decoder
from mindcoder.models.tensor_parallel import NoTensorParallel
from mindcoder.parallel.mesh import Mesh
from mindcoder.parallel.zero1 import owners

STATE_PREFIXES = ("adam_m.", "adam_v.", "master.")


def parameter_of(name: str) -> str:
    """Global name of a parameter, or of the parameter that an optimizer state belongs to."""
    for prefix in STATE_PREFIXES:
        name = name.removeprefix(prefix)
    return name


def local_shards(items: Iterable[Parameter], decoder: Decoder, mesh: Mesh, owned: bool) -> dict[str, Shard]:
    """The shards of ``items`` that this rank writes; every tensor is written exactly once over all ranks.

    Args:
        items: parameters, or optimizer states by their names.
        decoder: this rank's part of the network.
        mesh: the processes.
        owned: whether ``items`` are already sharded over the data-parallel ranks (ZeRO-1); else these divide the
            writing.
    """
    config, tp, stage = decoder.config, decoder.tp, decoder.stage
    shapes = config.parameter_shapes()
    shards: dict[str, Shard] = {}
    items = list(items)
    writers = [mesh.data_index if owned else 0] * len(items)
    if not owned and len(items) >= mesh.data:
        writers = list(owners([tuple(item.shape) for item in items], mesh.data))
    for item, writer in zip(items, writers):
        name = parameter_of(item.name)
        if name not in shapes and split_layer(name)[0] is None:  # the update counter, the same on all ranks
            if mesh.rank == 0:
                shards[item.name] = Shard(item.asnumpy(), tuple(item.shape))
            continue
        axis = tp.axis(name, config)
        is_copy = (axis is None and tp.index > 0) or not stage.holds(name, tied_head=False)
        if is_copy or mesh.context_index > 0 or writer != mesh.data_index:
            continue
        shape = shapes[name] if name in shapes else _whole_shape(item.shape, axis, tp)
        shards[item.name] = _shard(item.asnumpy(), shape, axis, tp)
    return shards


def _whole_shape(shape: tuple[int, ...], axis: int | None, tp: NoTensorParallel) -> tuple[int, ...]:
    """Global shape of what an adapter adds to a layer; features are divisible by the ranks."""
    return tuple(size * tp.size if number == axis else size for number, size in enumerate(shape))


def _shard(values: np.ndarray, shape: tuple[int, ...], axis: int | None, tp: NoTensorParallel) -> Shard:
    if axis is None:
        return Shard(values, shape)
    begin, end = tp.shard_range_of(shape[axis])
    return Shard(values[: end - begin] if axis == 0 else values[:, : end - begin], shape, axis, begin)


def read_local(plan: TensorPlan, tp: NoTensorParallel, axis: int | None) -> np.ndarray:
    """This rank's shard of a tensor, without holding the rest; bfloat16 as bits."""
    if axis is None or tp.size == 1:
        return plan.read()
    begin, end = tp.shard_range_of(plan.shape[axis])
    return tp.pad_shard(plan.read_part(axis, begin, end), axis, plan.shape[axis])


def load_local_shards(
    targets: Iterable[Parameter], plans: Mapping[str, TensorPlan], decoder: Decoder, path: Path
) -> None:
    """Load this rank's shard of each global tensor into the target of its name, one tensor in memory at a time.

    Raises:
        UserError: tensors are missing or have another shape.
    """
    config, tp = decoder.config, decoder.tp
    targets = list(targets)
    missing = [target.name for target in targets if target.name not in plans]
    shapes = []
    for target in targets:
        if target.name in plans:
            values = read_local(plans[target.name], tp, tp.axis(parameter_of(target.name), config))
            if values.shape != tuple(target.shape):
                shapes.append(f"{target.name} {list(values.shape)} instead of {list(target.shape)}")
            else:
                target.set_data(Tensor(np.asarray(values, order="C"), target.dtype))
    if missing or shapes:
        raise mismatch_error(path, {"missing": missing, "unexpected": [], "of another shape": shapes})
