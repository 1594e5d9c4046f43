"""Small graphs through MindSpore's own Ascend backend, in processes of their own, against numpy."""

from __future__ import annotations

import json
import signal
import warnings
from pathlib import Path

import pytest

from softcann.environment import run_on_emulator

pytestmark = pytest.mark.long

BEGIN = """
import os
import numpy as np
import mindspore as ms
import mindspore.communication as communication
from mindspore import Parameter, Tensor, nn, ops

ms.set_context(mode=0)
ms.set_device("Ascend", int(os.environ.get("MS_NODE_ID", "0")))
ms.runtime.dispatch_threads_num(4)
random = np.random.default_rng(0)
"""

MATMUL_ADD = """
class Net(nn.Cell):
    def construct(self, a, b, c):
        return ops.add(ops.MatMul()(a, b), c)

a, b, c = [random.standard_normal(shape).astype(np.float32) for shape in ((37, 300), (300, 53), (53,))]
found = Net()(Tensor(a), Tensor(b), Tensor(c)).asnumpy()
print("DIFFERENCE", float(np.abs(found - (a.astype(np.float64) @ b + c)).max()))
"""

IDLE = """
import time
began = time.process_time()
time.sleep(1)
print("IDLE", time.process_time() - began)
"""

MOVEMENTS = """
class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.p = Parameter(Tensor(np.zeros((4, 6), np.float32)), name="p")

    def construct(self, x):
        ops.assign(self.p, x)
        return x[1:3, ::2], x[:, 1], x[-1], x[::-1, 4:1:-2]

x = np.arange(24, dtype=np.float32).reshape(4, 6)
net = Net()
parts = net(Tensor(x))
same = [(part.asnumpy() == right).all() for part, right in zip(parts, (x[1:3, ::2], x[:, 1], x[-1], x[::-1, 4:1:-2]))]
print("SAME", all(same), (net.p.asnumpy() == x).all())
"""

OLD_PATH = """
class Net(nn.Cell):
    def construct(self, x):
        return ops.L2Loss()(x)

print(Net()(Tensor(np.ones((2, 3), np.float32))).asnumpy())
"""

TWO_RANKS = """
communication.init()
rank = communication.get_rank()
communication.create_group("pair", [0, 1])

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.all_reduce = ops.AllReduce()
        self.all_gather = ops.AllGather(group="pair")
        self.reduce_scatter = ops.ReduceScatter(group="pair")

    def construct(self, a, b):
        y = self.all_reduce(ops.MatMul()(a, b))
        return y, self.all_gather(a), self.reduce_scatter(y)

A, B = [random.standard_normal(shape).astype(np.float32) for shape in ((4, 8), (8, 16))]
mine = slice(4 * rank, 4 * rank + 4)
y, gathered, scattered = Net()(Tensor(A[:, mine].copy()), Tensor(B[mine].copy()))
right = A @ B
rows = right[2 * rank : 2 * rank + 2]
difference = max(np.abs(y.asnumpy() - right).max(), np.abs(scattered.asnumpy() - 2 * rows).max())
gathers = (gathered.asnumpy() == np.concatenate([A[:, :4], A[:, 4:]])).all()
print("RANK", rank, gathers, float(difference))
"""

MISMATCH = """
communication.init()
size = 4 + communication.get_rank()

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.all_reduce = ops.AllReduce()

    def construct(self, x):
        return self.all_reduce(x)

print(Net()(Tensor(np.ones(size, np.float32))).asnumpy())
"""


def lines(output: str, word: str) -> list[list[str]]:
    return [line.split()[1:] for line in output.splitlines() if line.startswith(word)]


def test_matmul_and_add_equal_numpy(tmp_path: Path) -> None:
    for attempt in range(2):
        log = tmp_path / f"log{attempt}"
        (finished,) = run_on_emulator(BEGIN + MATMUL_ADD, log=log)
        ((difference,),) = lines(finished.output, "DIFFERENCE")
        assert float(difference) < 1e-4, finished.output  # sums of 300 products in float32
        if finished.returncode != -signal.SIGSEGV:
            break
        # Two of some 600 such processes ended so, behind their result, while MindSpore shut down. It was not found why.
        warnings.warn(f"a process on softcann crashed at its exit:\n{finished.output}", stacklevel=1)
    assert finished.returncode == 0, finished.output
    names = [event["name"] for event in map(json.loads, log.read_text().splitlines()) if event["event"] == "aclnn"]
    assert names == ["aclnnMm", "aclnnAdd"]


def test_a_process_that_waits_takes_no_core() -> None:
    """MindSpore has a thread for each stream that asks for reports; without a wait two of them took both cores."""
    (finished,) = run_on_emulator(BEGIN + MATMUL_ADD + IDLE)
    ((seconds,),) = lines(finished.output, "IDLE")
    assert float(seconds) < 0.5  # busy threads: a second and more


def test_data_movements_of_the_old_path_equal_numpy(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (finished,) = run_on_emulator(BEGIN + MOVEMENTS, log=log)
    assert lines(finished.output, "SAME") == [["True", "True"]], finished.output
    old = [event for event in map(json.loads, log.read_text().splitlines()) if event["event"] == "aclop"]
    assert {event["name"] for event in old} <= {"Assign", "TensorMove", "StridedSlice"}
    assert all(event["computed"] for event in old)


def test_an_operator_of_the_old_path_is_refused_and_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (finished,) = run_on_emulator(BEGIN + OLD_PATH, log=log)
    assert finished.returncode != 0
    assert "softcann: aclop L2Loss" in finished.output
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(e["name"], e["computed"]) for e in events if e["event"] == "aclop"] == [("L2Loss", False)]


def test_two_ranks_and_a_group_of_mindspore_equal_numpy() -> None:
    finished = run_on_emulator(BEGIN + TWO_RANKS, ranks=2)
    for rank, one in enumerate(finished):
        assert one.returncode == 0, one.output
        ((number, gathers, difference),) = lines(one.output, "RANK")
        assert (number, gathers) == (str(rank), "True")
        assert float(difference) < 1e-5


def test_a_mismatch_between_ranks_ends_mindspore_with_both_named() -> None:
    for one in run_on_emulator(BEGIN + MISMATCH, ranks=2):
        assert one.returncode != 0
        assert "is in AllReduce of 4 float32, sum, and rank 1 (process" in one.output
