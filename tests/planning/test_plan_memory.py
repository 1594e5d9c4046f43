"""The plan's bytes against the peak resident set of real runs of two widths of one graph: only the sizes differ."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cluster import write_table
from conftest import REPOSITORY
from parallel.test_data_parallel import arguments, dataset  # noqa: F401

from mindcoder.config.load import load_config
from mindcoder.families.from_section import config_from_section
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.planning.layout import Machine, Workload
from mindcoder.planning.plan import make_plan

WIDTHS = (512, 1024)
CONFIG = "configs/wizardcoder/tiny_finetune.yaml"


def sizes(width: int, layout: ParallelLayout) -> dict:
    return {
        "model.model_config.hidden_size": width,
        "model.model_config.num_layers": 10,  # many times the largest tensor, of which MCCL holds a few copies in a sum
        "model.model_config.num_heads": 8,
        "runner_config.max_steps": 2,
        "parallel_config.data_parallel": layout.data,
        "parallel_config.model_parallel": layout.tensor,
        "parallel_config.pipeline_stage": layout.pipeline,
        "parallel_config.optimizer_shard": layout.shard_optimizer,
        "parallel_config.micro_batch_num": 2,
    }


def peaks(dataset, output: Path, width: int, layout: ParallelLayout) -> list[int]:  # noqa: F811
    """Peak resident bytes of every rank, as the kernel counts them."""
    run = [sys.executable, "-m", "mindcoder.cli.main"]
    run += arguments(dataset, output, 1, "wizardcoder", **sizes(width, layout))
    if layout.devices > 1:
        command = " ".join([*run, "--use_parallel", "True"])
        table = ["--rank_table", str(write_table(output, layout.devices)), "--log_dir", str(output / "log")]
        run = [sys.executable, "-m", "mindcoder.cli.main", "launch", "--command", command, *table]
    found: dict[int, int] = {}
    process = subprocess.Popen(run, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            whole = psutil.Process(process.pid)
            for rank, item in enumerate([whole] if layout.devices == 1 else whole.children()):
                rank = int(item.environ().get("RANK_ID", "-1")) if layout.devices > 1 else rank
                lines = Path(f"/proc/{item.pid}/status").read_text().splitlines()
                peak = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
                found[rank] = max(found.get(rank, 0), peak)
        except (psutil.Error, OSError):
            pass  # it has just ended
        time.sleep(0.05)
    assert process.returncode == 0
    return [found[rank] for rank in range(layout.devices)]


def planned(width: int, layout: ParallelLayout) -> list[float]:
    """Weights, gradients and optimizer states of every rank."""
    sets = [f"{key}={value}" for key, value in sizes(width, layout).items()]
    sets += ["model.model_config.vocab_size=701", "model.model_config.pad_token_id=699"]
    config, _ = load_config(REPOSITORY / CONFIG, sets)
    micro = 2 if layout.pipeline > 1 else 1
    work = Workload(1, 192, micro, False)
    plan = make_plan(config_from_section(config.model.settings), layout, work, Machine())
    fixed = [stage.memory.total - stage.memory.activations for stage in plan.stages]
    return [size for size in fixed for _ in range(layout.data * layout.tensor)]


@pytest.mark.cluster
@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(ParallelLayout(1, 1, 1), id="one process"),
        pytest.param(ParallelLayout(2, 1, 1), id="data 2"),
        pytest.param(ParallelLayout(2, 1, 1, shard_optimizer=True), id="data 2, divided states"),
        pytest.param(ParallelLayout(1, 2, 1), id="tensor 2"),
        pytest.param(ParallelLayout(1, 1, 2), id="pipeline 2"),
    ],
)
def test_what_a_wider_network_takes_is_what_the_plan_says(layout, dataset, tmp_path):  # noqa: F811
    measured = [peaks(dataset, tmp_path / str(width), width, layout) for width in WIDTHS]
    expected = [planned(width, layout) for width in WIDTHS]
    report = {}
    for rank in range(layout.devices):
        grown, said = measured[1][rank] - measured[0][rank], expected[1][rank] - expected[0][rank]
        report[rank] = (grown / 1e6, said / 1e6)
    print(json.dumps(report))
    for grown, said in report.values():
        assert grown == pytest.approx(said, rel=0.15), report
