"""Whether ``parallel_config`` fits the model, the batch and the number of processes; checked before anything starts."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.config.source import YamlSource
from mindcoder.errors import UserError


def check_layout(config: RunConfig, source: YamlSource, world: int) -> None:
    """Check the mesh against ``world`` processes.

    Raises:
        UserError: names the key, what was found and what is expected.
    """
    mesh, model = config.parallel_config, config.model.settings

    def refuse(key: str, message: str) -> None:
        place, line = source.place(("parallel_config", key))
        raise UserError(f"parallel_config.{key}: {message}", place, line)

    if mesh.pipeline_stage > 1:
        found = mesh.pipeline_stage
        refuse("pipeline_stage", f"found {found}, expected 1: pipeline parallel is not in this version yet")
    product = mesh.data_parallel * mesh.model_parallel * mesh.pipeline_stage
    if product != world:
        refuse(
            "data_parallel",
            f"data {mesh.data_parallel} x tensor {mesh.model_parallel} x pipeline {mesh.pipeline_stage} makes "
            f"{product} but the number of processes is {world} (scripts/run_singlenode.sh starts them)",
        )
    for name, size in (("num_heads", model.num_heads), ("n_kv_heads", model.kv_heads)):
        if size % mesh.model_parallel and not (name == "n_kv_heads" and size == 1):
            refuse("model_parallel", f"{name} {size} is not divisible by {mesh.model_parallel}")
