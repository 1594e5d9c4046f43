"""Run by the tests in a process of its own under MS_SIMULATION_LEVEL=1: one update of one rank of a shipped YAML file.

``python memory_child.py CASE.json``: the case names the file, keys to set, and where to write. RANK_ID and RANK_SIZE
say which rank this is; the others do not exist. Nothing is computed: MindSpore compiles the graphs for Ascend, selects
kernels and allocates the memory of each operator in order, as on a card.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from mindcoder.backend.device import setup_device
from mindcoder.config.load import load_config


def main() -> None:
    case = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    config, _ = load_config(case["file"], case["set"])
    setup_device("Ascend")
    import mindspore as ms
    from mindspore import Tensor

    from mindcoder.families.from_section import config_from_section
    from mindcoder.parallel.cluster import build_part, meet_cluster
    from mindcoder.peft.from_section import lora_options
    from mindcoder.peft.lora import add_lora
    from mindcoder.train.build import build_adamw, build_step, micro_batches
    from mindcoder.train.from_section import build_loss_scale, build_optimizer, build_schedule
    from mindcoder.train.objectives.registry import default_objective
    from mindcoder.train.options import TrainOptions
    from mindcoder.train.step import MicroBatch

    began = time.monotonic()
    comm = meet_cluster(config)
    decoder = build_part(comm, config_from_section(config.model.settings), empty=True)
    lora, accumulate = lora_options(config), micro_batches(config)
    if lora is not None:
        add_lora(decoder, lora, 0)
    options = TrainOptions(
        total_steps=1,
        epochs=1,
        accumulate=accumulate,
        schedule=build_schedule(config, 1),
        optimizer=build_optimizer(config),
        loss_scale=build_loss_scale(config),
        max_grad_norm=config.runner_wrapper.max_grad_norm if config.runner_wrapper.use_clip_grad else 0.0,
        seed=0,
        save_every=0,
        keep=1,
        eval_every=0,
        checkpoint_root=Path("checkpoint"),
        recompute=bool(config.recompute_config.recompute),
        shard_optimizer=comm.mesh.layout.shard_optimizer and comm.mesh.data > 1,
        lora=lora,
    )
    step = build_step(decoder, build_adamw(decoder, options, comm), default_objective(), options, comm)
    step.set_train(True)
    shape = (config.runner_config.batch_size, config.model.settings.seq_length)
    ids = Tensor(np.zeros(shape, np.int32))
    batch = MicroBatch(ids, ids, ids, ids, Tensor(0, ms.int32), Tensor(1.0 / accumulate, ms.float32))
    for _ in range(2):  # the optimizer's states come to the device when they are first used
        step.run([batch] * accumulate, 1e-4, 1.0)
    ms.runtime.synchronize()
    found = {
        "peak": ms.runtime.max_memory_allocated(),
        "reserved": ms.runtime.max_memory_reserved(),
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds": time.monotonic() - began,
    }
    Path(case["output"]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
