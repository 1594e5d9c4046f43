"""Published sizes compiled for Ascend with two layers a pipeline stage: MindSpore's peak of memory beside the plan's.

``python tests/ascend/published_sizes.py [WORD ...]`` from the root prints the table of docs/ascend.md, of the cases
whose names have all the words; a case takes one to five minutes on two cores and up to 5 GB.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))

from mindcoder.config.layout import layout_of  # noqa: E402
from mindcoder.config.load import load_config  # noqa: E402
from mindcoder.families.from_section import config_from_section  # noqa: E402
from mindcoder.parallel_layout import ParallelLayout  # noqa: E402
from mindcoder.planning.from_section import workload_of  # noqa: E402
from mindcoder.planning.layout import Machine  # noqa: E402
from mindcoder.planning.plan import make_plan  # noqa: E402
from softcann.environment import run_on_emulator  # noqa: E402

CHILD = Path(__file__).with_name("memory_child.py")
KERNEL = re.compile(r"kernel opname:(\w+), kernel type:(\w+)")  # an INFO line of MindSpore's kernel selection
LAYERS_OF_A_STAGE = 2


@dataclass(frozen=True)
class Case:
    """One rank of a shipped file's layout.

    Attributes:
        file: below configs/.
        length: tokens of a sequence.
        stage: of the pipeline.
        sets: keys besides.
    """

    file: str
    length: int = 2048
    stage: int = 0
    sets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For the table and for pytest."""
        return f"{self.file.removesuffix('.yaml')} {self.length} stage {self.stage}"


@dataclass(frozen=True)
class Measured:
    """What MindSpore says of a rank's step.

    Attributes:
        peak, planned: bytes; without the fragments of MindSpore's pool, and without HCCL's buffers.
        kernels: how many the graphs have of each type (opapi_kernel is aclnn, acl_kernel the old aclop).
        old: names of the latter.
        layout: of the file.
        seconds: to compile and to go through it.
        resident: bytes of the process.
    """

    peak: int
    planned: float
    kernels: Counter[str]
    old: set[str]
    layout: ParallelLayout
    seconds: float
    resident: int

    @property
    def ratio(self) -> float:
        """Planned to measured."""
        return self.planned / self.peak


def measure(case: Case, place: Path) -> Measured:
    """Compile one rank in a process of its own in the folder ``place``.

    Raises:
        RuntimeError: it failed; the message is its output.
    """
    path = REPOSITORY / "configs" / case.file
    mesh = load_config(path)[0].parallel_config
    stages, sets = mesh.pipeline_stage or 1, list(case.sets)
    sets.append(f"model.model_config.num_layers={LAYERS_OF_A_STAGE * stages}")
    sets.append(f"model.model_config.seq_length={case.length}")
    if stages > 1:  # as many as a pipeline has under way at most; more only repeat
        sets.append(f"parallel_config.micro_batch_num={stages}")
    config, _ = load_config(path, sets)
    layout, network = layout_of(config), config_from_section(config.model.settings)
    plan = make_plan(network, layout, workload_of(config, network), Machine())
    rank = case.stage * layout.data * layout.tensor
    file, output = place / "case.json", place / "found.json"
    file.write_text(json.dumps({"file": str(path), "set": sets, "output": str(output)}), encoding="utf-8")
    (done,) = run_on_emulator(
        [str(CHILD), str(file)],
        cwd=place,
        timeout=1200,
        MS_SIMULATION_LEVEL="1",
        RANK_SIZE=str(layout.devices),
        RANK_ID=str(rank),
        MS_SUBMODULE_LOG_v="{DEVICE:1}",
    )
    if done.returncode != 0:
        raise RuntimeError(done.output[-4000:])
    found = json.loads(output.read_text(encoding="utf-8"))
    selected = KERNEL.findall(done.output)
    return Measured(
        found["peak"],
        plan.stages[case.stage].memory.total,
        Counter(kind for _, kind in selected),
        {name for name, kind in selected if kind == "acl_kernel"},
        layout,
        found["seconds"],
        found["resident"],
    )


LONG = 8192
BEYOND = ("model.model_config.max_position_embedding=8192",)  # Llama 2 was published for 4096
QUICK = (Case("llama/codellama_7b_finetune.yaml"),)
SLOW = (
    *(Case("wizardcoder/15b_finetune.yaml", length, stage) for length in (2048, LONG) for stage in (0, 1)),
    *(Case("starcoder2/15b_finetune.yaml", length, stage) for length in (2048, LONG) for stage in (0, 1)),
    *(Case("starcoder/15b_finetune.yaml", length, 1) for length in (2048, LONG)),
    Case("wizardcoder/15b_lora.yaml", 2048, 1),
    *(Case("llama/codellama_34b_finetune.yaml", stage=stage) for stage in (0, 1)),
    *(Case("llama/codellama_34b_finetune.yaml", LONG, stage) for stage in (0, 1)),
    *(Case("llama/llama2_70b_finetune.yaml", 2048, stage) for stage in (0, 1, 3)),
    *(Case("llama/llama2_70b_finetune.yaml", LONG, stage, BEYOND) for stage in (0, 1, 3)),
    Case("llama/codellama_7b_finetune.yaml", LONG),
    Case("starcoder2/3b_finetune.yaml"),
    Case("starcoder2/3b_finetune.yaml", LONG),
)


def main() -> None:
    print("| File | Tokens | Layout | Stage | Kernels (aclnn, HCCL) | aclop | MindSpore's peak | Plan | Ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in (*QUICK, *SLOW):
        if not all(word in case.name for word in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure(case, Path(folder))
        cells = [
            case.file,
            case.length,
            f"{found.layout.data} x {found.layout.tensor} x {found.layout.pipeline}",
            f"{case.stage + 1} of {found.layout.pipeline}",
            f"{found.kernels['opapi_kernel']}, {found.kernels['hccl_kernel']}",
            found.kernels["acl_kernel"],
            f"{found.peak / 2**30:.2f} GiB",
            f"{found.planned / 2**30:.2f} GiB",
            f"{found.ratio:.3f}",
        ]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        print(f"{case.name}: {found.seconds:.0f} s, {found.resident / 2**30:.1f} GiB resident", file=sys.stderr)


if __name__ == "__main__":
    main()
