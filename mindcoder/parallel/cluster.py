"""From a configuration to the processes of a run and this one's part in it."""

from __future__ import annotations

from mindcoder.config.schema import RunConfig
from mindcoder.models.slices import WHOLE, WholeLayers
from mindcoder.models.transformer_config import TransformerConfig
from mindcoder.parallel.collectives import Collectives, single_process, start_collectives
from mindcoder.parallel.tensor_parallel import SlicedLayers


def meet_cluster(config: RunConfig) -> Collectives:
    """The processes that ``parallel_config`` describes; this one alone without ``use_parallel``.

    Raises:
        ValueError: the launcher started another number of them (`check_layout` says so earlier).
    """
    if not config.use_parallel:
        return single_process()
    mesh = config.parallel_config
    return start_collectives(mesh.data_parallel, mesh.pipeline_stage, mesh.model_parallel)


def slices_of(together: Collectives, network: TransformerConfig) -> WholeLayers:
    """This process's part of every layer."""
    return SlicedLayers(together, network) if together.mesh.tensor > 1 else WHOLE
