"""From a configuration to the process groups of a run and this rank's part of the network."""

from __future__ import annotations

from mindcoder.config.layout import layout_of
from mindcoder.config.schema import RunConfig
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.decoder import Decoder
from mindcoder.models.stage import stage_of
from mindcoder.models.tensor_parallel import NO_TP
from mindcoder.parallel.context_parallel import divide_context
from mindcoder.parallel.process_groups import ProcessGroups, create_process_groups, single_process
from mindcoder.parallel.tensor_parallel import TensorParallel


def meet_cluster(config: RunConfig) -> ProcessGroups:
    """The process groups that ``parallel_config`` describes; of this process alone without ``use_parallel``.

    Raises:
        ValueError: the launcher started another number of processes (`check_layout` reports it earlier).
    """
    return create_process_groups(layout_of(config)) if config.use_parallel else single_process()


def build_part(
    comm: ProcessGroups, network: TransformerConfig, seed: int = 0, empty: bool = False, trains: bool = True
) -> Decoder:
    """This rank's part of the network: its stage, and its shard of every layer.

    Args:
        seed: of the initial values.
        empty: no initial values, and no memory for them, because weights are loaded right after.
        trains: see `TensorParallel`.
    """
    mesh = comm.mesh
    tp = TensorParallel(comm, network, trains) if mesh.tensor > 1 else NO_TP
    decoder = Decoder(network, seed, empty, tp, stage_of(mesh.layout.layer_counts(network.num_layers), mesh.stage))
    if mesh.context > 1:
        divide_context(decoder, comm)
    return decoder
