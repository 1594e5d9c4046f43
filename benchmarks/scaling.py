"""Step time, bytes on the wire and memory of 1, 2, 4 and 8 processes, measured and predicted side by side.

``python -m benchmarks.scaling``. Predictions are `mindcoder.parallel.plan`'s, from two figures measured first: what one
process reaches in FLOP/s, and the bandwidth of a sum over two. All processes share this machine's cores, so n of them
get 1 / n of the FLOP/s each. Then, on paper, WizardCoder-15B on 8, 64 and 512 cards. Figures go to
``benchmarks/results/scaling.json``.
"""

from __future__ import annotations

import csv
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from benchmarks.record import write_result
from mindcoder.config.layout import layout_of
from mindcoder.config.load import load_config
from mindcoder.config.schema import RunConfig
from mindcoder.families.from_section import config_from_section
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.launch.rank_table import make_table
from mindcoder.parallel_layout import ParallelLayout
from mindcoder.planning.layout import Machine, Workload
from mindcoder.planning.plan import Plan, make_plan

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = REPOSITORY / "configs" / "wizardcoder" / "tiny_finetune.yaml"
SEED_FILE = REPOSITORY / "research" / "wizardcoder" / "run_wizardcoder.yaml"
LENGTH, ROWS, STEPS, FIRST_COUNTED = 192, 8, 9, 3  # tokens a sequence; sequences a step; updates; warm ones start here
NETWORK = {
    "seq_length": LENGTH,
    "hidden_size": 512,
    "num_layers": 8,
    "num_heads": 8,
    "vocab_size": 4096,
    "pad_token_id": 699,
}
LAYOUTS = [
    (ParallelLayout(1, 1, 1), 1),
    (ParallelLayout(2, 1, 1), 1),
    (ParallelLayout(2, 1, 1, shard_optimizer=True), 1),
    (ParallelLayout(1, 2, 1), 1),
    (ParallelLayout(1, 2, 1, sequence=True, vocabulary=True), 1),
    (ParallelLayout(1, 1, 2), 4),
    (ParallelLayout(4, 1, 1, shard_optimizer=True), 1),
    (ParallelLayout(1, 4, 1), 1),
    (ParallelLayout(1, 2, 2), 4),
    (ParallelLayout(2, 2, 2, shard_optimizer=True), 4),
    (ParallelLayout(1, 4, 2), 4),
]
CARDS = Machine()  # an Atlas 800T A2


@dataclass(frozen=True)
class Measured:
    """Seconds of a step, bytes that all processes sent in it, and each rank's peak resident set."""

    seconds: float
    sent: float
    memory: list[float]


def settings(layout: ParallelLayout, micro_batches: int, **more: object) -> dict[str, object]:
    """``--set`` values of a layout; every layout sees the same sequences a step."""
    return {
        **{f"model.model_config.{name}": value for name, value in NETWORK.items()},
        "runner_config.batch_size": ROWS // layout.data // micro_batches,
        "runner_config.max_steps": STEPS,
        "runner_config.epochs": 9,
        "parallel_config.data_parallel": layout.data,
        "parallel_config.model_parallel": layout.tensor,
        "parallel_config.pipeline_stage": layout.pipeline,
        "parallel_config.micro_batch_num": micro_batches,
        "parallel_config.optimizer_shard": layout.shard_optimizer,
        "parallel_config.use_seq_parallel": layout.sequence,
        "parallel_config.vocab_emb_dp": not layout.vocabulary,
        **more,
    }


def loopback_bytes() -> int:
    """Bytes this machine has sent to itself: all of the processes' messages."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[1])


def write_table(folder: Path, ranks: int) -> Path:
    """A rank table of this machine."""
    file = folder / f"table_{ranks}.json"
    file.write_text(json.dumps(make_table("127.0.0.1", range(ranks), ["127.0.0.1"] * ranks).as_dict()))
    return file


def measure(layout: ParallelLayout, micro_batches: int, folder: Path, **more: object) -> Measured:
    """Train for a few steps and watch."""
    output = folder / f"{layout}".replace(" ", "_")
    sets = settings(layout, micro_batches, **more)
    flags = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    run = [sys.executable, "-m", "mindcoder.cli.main", "finetune", "--config", str(CONFIG), *flags]
    run += ["--train_data", str(folder / "data.mindrecord"), "--output_dir", str(output), "--overwrite"]
    if layout.devices > 1:
        command = shlex.join([*run, "--use_parallel", "True"])
        table = ["--rank_table", str(write_table(folder, layout.devices)), "--log_dir", str(output / "log")]
        run = [sys.executable, "-m", "mindcoder.cli.main", "launch", "--command", command, *table]
    curve = output / "curves" / "loss.csv"
    with open(folder / "run.log", "wb") as log:
        process = subprocess.Popen(run, stdout=log, stderr=subprocess.STDOUT, cwd=REPOSITORY)
        peaks: dict[int, float] = {}
        sent: dict[int, int] = {}
        while process.poll() is None:
            done = len(curve.read_text().splitlines()) - 1 if curve.is_file() else 0
            if done in (FIRST_COUNTED - 1, STEPS - 1):
                sent.setdefault(done, loopback_bytes())
            _note_peaks(process, layout.devices, peaks)
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit((folder / "run.log").read_text()[-3000:])
    with open(curve) as stream:
        rates = [float(row["tokens_per_second"]) for row in csv.DictReader(stream)][FIRST_COUNTED:]
    bytes_a_step = (sent[STEPS - 1] - sent[FIRST_COUNTED - 1]) / (STEPS - FIRST_COUNTED)
    memory = [peaks[rank] for rank in sorted(peaks)]
    return Measured(ROWS * LENGTH / statistics.median(rates), bytes_a_step, memory)


def _note_peaks(process: subprocess.Popen, ranks: int, peaks: dict[int, float]) -> None:
    """Peak resident set of every rank so far, from the kernel's own count."""
    try:
        found = [psutil.Process(process.pid)] if ranks == 1 else psutil.Process(process.pid).children()
        for item in found:
            rank = 0 if ranks == 1 else int(item.environ().get("RANK_ID", "-1"))
            status = Path(f"/proc/{item.pid}/status").read_text()
            line = next((line for line in status.splitlines() if line.startswith("VmHWM")), None)
            if rank >= 0 and line:
                peaks[rank] = max(peaks.get(rank, 0.0), int(line.split()[1]) * 1024.0)
    except (psutil.Error, OSError):
        pass  # it has just ended


def sum_bandwidth(folder: Path) -> float:
    """Bytes a second that each of two processes sends in a sum of 32 MB inside a graph."""
    script = folder / "sum.py"
    script.write_text(
        "import time, numpy as np\n"
        "from mindcoder.backend.device import setup_device\n"
        "setup_device('CPU')\n"
        "import mindspore as ms\n"
        "from mindcoder.parallel.process_groups import create_process_groups\n"
        "from mindcoder.parallel_layout import ParallelLayout\n"
        "comm = create_process_groups(ParallelLayout(data=2))\n"
        "total = comm.all_reduce_among((0, 1)); x = ms.Tensor(np.ones(8 * 2**20, np.float32)); times = []\n"
        "for _ in range(8):\n"
        "    began = time.perf_counter(); total(x).asnumpy(); times.append(time.perf_counter() - began)\n"
        "print('SECONDS', min(times)) if comm.mesh.rank == 0 else None\n"
        "time.sleep(3)  # the other one may still be receiving\n"
    )
    command = [sys.executable, "-m", "mindcoder.cli.main", "launch", "--command", f"{sys.executable} {script}"]
    table = ["--rank_table", str(write_table(folder, 2)), "--log_dir", str(folder / "log")]
    done = subprocess.run([*command, *table], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    seconds = float(next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("SECONDS")))
    return 32 * 2**20 / seconds


def predicted(network: TransformerConfig, layout: ParallelLayout, micro_batches: int, machine: Machine) -> Plan:
    """The plan of the same step."""
    work = Workload(ROWS // layout.data // micro_batches, LENGTH, micro_batches, False)
    return make_plan(network, layout, work, replace(machine, flops=machine.flops / layout.devices))


def sent_by_all(plan: Plan) -> float:
    """Bytes of all ranks."""
    return sum(stage.sent for stage in plan.stages) * plan.layout.data * plan.layout.tensor


def on_paper(config: RunConfig) -> list[dict[str, object]]:
    """The 15B file of MindFormers on 8, 64 and 512 cards: more data replicas, ZeRO-1, the same micro batches each."""
    network, configured = config_from_section(config.model.settings), layout_of(config)
    rows = []
    for devices in (8, 64, 512):
        data = devices // configured.devices_per_replica
        layout = replace(configured, data=data, shard_optimizer=True, sequence=True, vocabulary=False, offsets=None)
        micro_batches = config.parallel_config.micro_batch_num or 1
        work = Workload(config.runner_config.batch_size, config.model.settings.seq_length, micro_batches, True)
        plan = make_plan(network, layout, work, CARDS)
        tokens = work.tokens * work.micro_batches * data
        rows.append(
            {
                "devices": devices,
                "layout": str(layout),
                "gigabytes_of_the_fullest": plan.peak / 1e9,
                "seconds_a_step": plan.seconds,
                "tokens_per_second": tokens / plan.seconds,
                "gigabytes_sent_by_a_rank": max(stage.sent for stage in plan.stages) / 1e9,
            }
        )
    return rows


def main() -> None:
    """Measure, predict, print."""
    sets = [f"model.model_config.{name}={value}" for name, value in NETWORK.items()]
    config, _ = load_config(CONFIG, sets)
    network = config_from_section(config.model.settings)
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        bandwidth = sum_bandwidth(folder)
        small = {f"model.model_config.{name}": size for name, size in (("hidden_size", 64), ("num_layers", 1))}
        base = measure(ParallelLayout(1, 1, 1), 1, folder, **small).memory[0]
        flops = 0.0
        print(
            f"{network.num_parameters() / 1e6:.1f} M parameters, {ROWS} x {LENGTH} tokens a step; a process without a "
            f"model {base / 1e6:.0f} MB; a sum over two {bandwidth / 1e9:.2f} GB/s",
            flush=True,
        )
        print("layout | s a step: measured, predicted | MB sent: measured, predicted | MB of the fullest rank: …")
        for layout, micro_batches in LAYOUTS:
            found = measure(layout, micro_batches, folder)
            flops = flops or network.flops_per_token(LENGTH) * ROWS * LENGTH / found.seconds
            plan = predicted(
                network, layout, micro_batches, Machine(64e9, flops, bandwidth, bandwidth, communicator_buffer=0)
            )
            fixed = max(stage.memory.total - stage.memory.activations for stage in plan.stages)
            row = {
                "layout": str(layout),
                "processes": layout.devices,
                "micro_batches": micro_batches,
                "measured": asdict(found),
                "predicted": {
                    "seconds": plan.seconds,
                    "sent": sent_by_all(plan),
                    "memory": base + plan.peak,
                    "weights_gradients_optimizer": fixed,
                },
            }
            results.append(row)
            print(
                f"{layout} | {found.seconds:.2f} {plan.seconds:.2f} | {found.sent / 1e6:.1f} "
                f"{sent_by_all(plan) / 1e6:.1f} | {max(found.memory) / 1e6:.0f} {(base + plan.peak) / 1e6:.0f}",
                flush=True,
            )
    paper = on_paper(load_config(SEED_FILE)[0])
    for item in paper:
        print(item)
    figures = {
        "command": "python -m benchmarks.scaling",
        "parameters": network.num_parameters(),
        "base_memory": base,
        "bandwidth": bandwidth,
        "flops": flops,
        "layouts": results,
        "wizardcoder_15b_on_paper": {"machine": asdict(CARDS), "rows": paper},
    }
    print(f"written to {write_result('scaling', figures)}")


def prepare(folder: Path) -> None:
    """The project's own samples as a dataset."""
    from mindcoder.data.preprocess import PreprocessOptions, preprocess
    from mindcoder.tokenizer.bpe import train_tokenizer

    samples = REPOSITORY / "datasets" / "samples.json"
    records = json.loads(samples.read_text(encoding="utf-8"))
    tokenizer = train_tokenizer([text for record in records for text in record.values()], 700)
    options = PreprocessOptions(str(samples), folder / "data.mindrecord", LENGTH, True, workers=1, show_progress=False)
    preprocess(options, tokenizer)


if __name__ == "__main__":
    main()
