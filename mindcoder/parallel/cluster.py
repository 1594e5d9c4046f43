"""From a configuration to the processes of a run and this one's part in it."""

from __future__ import annotations

from mindcoder.config.layout import spread_layers
from mindcoder.config.schema import RunConfig
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.decoder import Decoder
from mindcoder.models.stage import Stage, stage_of
from mindcoder.models.tensor_parallel import NO_TP, NoTensorParallel
from mindcoder.parallel.process_groups import ProcessGroups, create_process_groups, single_process
from mindcoder.parallel.tensor_parallel import TensorParallel


def meet_cluster(config: RunConfig) -> ProcessGroups:
    """The processes that ``parallel_config`` describes; this one alone without ``use_parallel``.

    Raises:
        ValueError: the launcher started another number of them (`check_layout` says so earlier).
    """
    if not config.use_parallel:
        return single_process()
    mesh = config.parallel_config
    return create_process_groups(mesh.data_parallel, mesh.pipeline_stage, mesh.model_parallel)


def build_tensor_parallel(
    comm: ProcessGroups, network: TransformerConfig, config: RunConfig, trains: bool = True
) -> NoTensorParallel:
    """This process's part of every layer.

    Args:
        trains: sequence parallelism is for training and evaluation; a single new token cannot be divided.
    """
    if comm.mesh.tensor == 1:
        return NO_TP
    section = config.parallel_config
    sequence = bool(section.use_seq_parallel or config.model.settings.use_seq_parallel)
    return TensorParallel(comm, network, sequence and trains, section.vocab_emb_dp is False)


def stage_here(comm: ProcessGroups, config: RunConfig) -> Stage:
    """This process's layers."""
    model = config.model.settings
    return stage_of(spread_layers(model.num_layers, comm.mesh.pipeline, model.offset), comm.mesh.stage)


def build_part(
    comm: ProcessGroups,
    network: TransformerConfig,
    config: RunConfig,
    seed: int = 0,
    empty: bool = False,
    trains: bool = True,
) -> Decoder:
    """This process's part of the network.

    Args:
        seed: of the start values.
        empty: weights are loaded right after.
        trains: as `build_tensor_parallel`.
    """
    tp = build_tensor_parallel(comm, network, config, trains)
    return Decoder(network, seed, empty, tp, stage_here(comm, config))
