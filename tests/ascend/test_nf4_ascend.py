"""Products with codes of NF4 in MindSpore's operators, on the emulated Ascend, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from mindcoder.backend.nf4 import BLOCK, NestedScales, pack_codes, to_codes, to_numbers
from softcann.environment import run_on_emulator

pytestmark = pytest.mark.long

ROWS, INPUTS, OUTPUTS = 5, 192, 7  # 21 blocks: less than 256
TOLERANCE = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
PROGRAM = """
import sys
import numpy as np
import mindspore as ms
from mindspore import Tensor, nn
from mindcoder.backend.device import setup_device
setup_device("Ascend")
from mindcoder.backend.nf4_operators import Nf4Product


class Both(nn.Cell):
    def __init__(self, shape, dtype, nested):
        super().__init__(auto_prefix=False)
        self.own = Nf4Product(shape, dtype, nested)

    def construct(self, x, dout, weight, absmax, nested, offset):
        return self.own(x, weight, absmax, nested, offset), self.own.gradient(dout, weight, absmax, nested, offset)


given, found = np.load(sys.argv[1]), {}
for dtype in ("float32", "float16", "bfloat16"):
    for nested in (False, True):
        x, dout = (Tensor(given[name]).astype(getattr(ms, dtype)) for name in ("x", "dout"))
        absmax = Tensor(given["numbers" if nested else "absmax"])
        shape = (dout.shape[1], x.shape[1], absmax.shape[1])
        operands = (Tensor(given["weight"]), absmax, Tensor(given["nested"]), Tensor(given["offset"]))
        for name, result in zip(("y", "dx"), Both(shape, dtype, nested)(x, dout, *operands)):
            found[f"{dtype}_{nested}_{name}"] = result.astype(ms.float32).asnumpy()
np.savez(sys.argv[2], **found)
"""


def test_products_and_gradients_are_those_of_the_numbers(tmp_path, rng):
    codes, absmax = to_codes(rng.standard_normal((OUTPUTS, INPUTS // BLOCK, BLOCK)).astype(np.float32))
    packed, nested = pack_codes(codes.reshape(OUTPUTS, -1)), NestedScales.of(absmax)
    given = {
        "x": rng.standard_normal((ROWS, INPUTS)).astype(np.float32),
        "dout": rng.standard_normal((ROWS, OUTPUTS)).astype(np.float32),
        "weight": packed,
        "absmax": absmax,
        "numbers": nested.numbers,
        "nested": nested.absmax,
        "offset": np.array([nested.offset]),
    }
    np.savez(tmp_path / "given.npz", **given)
    (tmp_path / "program.py").write_text(PROGRAM)
    log = tmp_path / "log.jsonl"
    files = [str(tmp_path / name) for name in ("program.py", "given.npz", "found.npz")]
    (finished,) = run_on_emulator(files, log=log)
    assert finished.returncode == 0, finished.output[-4000:]
    assert '"aclop"' not in log.read_text()
    found = np.load(tmp_path / "found.npz")
    for is_nested, scales in ((False, absmax), (True, nested.expanded())):
        weight = (to_numbers(packed).reshape(OUTPUTS, -1, BLOCK) * scales[:, :, None]).reshape(OUTPUTS, -1)
        for name, expected in (("y", given["x"] @ weight.T), ("dx", given["dout"] @ weight)):
            for dtype, tolerance in TOLERANCE.items():
                difference = np.abs(found[f"{dtype}_{is_nested}_{name}"] - expected).max()
                assert difference < tolerance * np.abs(expected).max(), (dtype, is_nested, name)
