"""softcann's activations in integers and products of integers against PyTorch; MindCoder's cells that call them."""

import ctypes

import numpy as np
import pytest
import torch

from softcann.environment import run_on_emulator
from softcann.testing import Refused, run

pytestmark = pytest.mark.long

ROWS, INPUTS, OUTPUTS = 5, 96, 7
HALVES = [torch.float16, torch.bfloat16]


def values(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def integers(*shape, seed=3):
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@pytest.mark.parametrize("dtype", HALVES)
def test_dynamic_quant(dtype):
    x = values(2, ROWS, INPUTS).to(dtype)
    x[1, 2] = 0
    smooth = values(INPUTS, seed=1).abs().to(dtype)
    for own in (None, smooth):
        y, scale = torch.empty(2, ROWS, INPUTS, dtype=torch.int8), torch.empty(2, ROWS)
        run("aclnnDynamicQuant", x, own, y, scale)
        smoothed = x.float() if own is None else x.float() * own.float()
        expected = smoothed.abs().amax(-1) / 127
        torch.testing.assert_close(scale, expected, rtol=0, atol=0)
        steps = smoothed / torch.where(expected == 0, 1, expected)[..., None]
        assert torch.equal(y.float(), steps.round())


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_ascend_quant(dtype):
    x = values(ROWS, INPUTS).to(dtype)
    for shape in (1, INPUTS):
        scale = (values(shape, seed=1).abs() * 40).to(dtype)
        offset = (values(shape, seed=2) * 9).round().to(dtype)
        for added in (None, offset):
            y = torch.empty(ROWS, INPUTS, dtype=torch.int8)
            run("aclnnAscendQuant", x, scale, added, False, "round", ctypes.c_int32(2), y)
            moved = x.float() * scale.float() + (0 if added is None else added.float())
            assert torch.equal(y.float(), moved.clamp(-128, 127).round())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("turned", [False, True], ids=["as it is", "transposed"])
def test_quant_matmul(dtype, turned):
    x, weight = integers(ROWS, INPUTS), integers(OUTPUTS, INPUTS, seed=4)
    scale, rows = values(OUTPUTS, seed=5).abs() / 100, values(ROWS, seed=6).abs() / 100
    exact = x.double() @ weight.double().T
    whole = torch.arange(OUTPUTS, dtype=torch.int32) * 100 - 300
    given = weight if turned else weight.T.contiguous()
    for bias in (None, whole, values(OUTPUTS, seed=7)):
        y = torch.empty(ROWS, OUTPUTS, dtype=dtype)
        run("aclnnQuantMatmulV4", x, given, scale, None, rows, bias, False, turned, y)
        begun = exact + (whole.double() if bias is whole else 0)
        expected = begun * scale.double() * rows.double()[:, None]
        expected = expected + (bias.double() if bias is not None and bias is not whole else 0)
        torch.testing.assert_close(y.double(), expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-3, atol=1e-3)


def test_what_the_pages_do_not_allow_is_refused():
    x, weight, scale, rows = integers(ROWS, INPUTS), integers(OUTPUTS, INPUTS), values(OUTPUTS), values(ROWS)
    y = torch.empty(ROWS, OUTPUTS, dtype=torch.float16)
    single = torch.empty(ROWS, OUTPUTS)
    whole, numbers = torch.empty(ROWS, INPUTS, dtype=torch.int8), torch.empty(ROWS)
    refused = [
        ("aclnnQuantMatmulV4", (x, weight, scale, None, rows, None, False, True, single), "out: found float32"),
        ("aclnnQuantMatmulV4", (x, weight, scale, None, None, None, False, True, y), "pertokenScaleOptional: found"),
        ("aclnnQuantMatmulV4", (x, weight, scale[:3], None, rows, None, False, True, y), "scale: found"),
        ("aclnnQuantMatmulV4", (x, weight, scale, scale, rows, None, False, True, y), "offset: found"),
        ("aclnnQuantMatmulV4", (x, weight, scale, None, rows[:2], None, False, True, y), "pertokenScaleOptional: f"),
        ("aclnnQuantMatmulV4", (x, weight, scale, None, rows, None, False, False, y), "x2: found .* reduced axis"),
        ("aclnnDynamicQuant", (values(ROWS, INPUTS), None, whole, numbers), "x: found float32"),
        ("aclnnDynamicQuant", (values(ROWS, INPUTS).half(), None, whole, numbers[:2]), "scaleOut: found"),
        (
            "aclnnAscendQuant",
            (values(ROWS, INPUTS).half(), scale[:1], None, False, "round", ctypes.c_int32(2), whole),
            "scale: found float32",
        ),
        (
            "aclnnAscendQuant",
            (values(ROWS, INPUTS), scale[:1], None, False, "floor", ctypes.c_int32(2), whole),
            "roundMode: found",
        ),
    ]
    for name, arguments, message in refused:
        with pytest.raises(Refused, match=message):
            run(name, *arguments)


PROGRAM = """
import sys
import numpy as np
import mindspore as ms
from mindspore import Tensor, nn, ops
from mindcoder.backend.device import setup_device
setup_device("Ascend")
from mindcoder.backend.int8_operators import RoundRows
from mindcoder.models.methods.w8a8 import W8A8


class Both(nn.Cell):
    def __init__(self, method):
        super().__init__(auto_prefix=False)
        self.method = method

    def construct(self, x, dout):
        operands = self.method.operands(Tensor(0, ms.int32))
        return self.method.multiply(x, operands), self.method.gradients(x, operands, dout)[0]


given, found = np.load(sys.argv[1]), {}
for dtype in ("float16", "bfloat16", "float32"):
    x, dout = (Tensor(given[name]).astype(getattr(ms, dtype)) for name in ("x", "dout"))
    for name in ("dynamic", "static"):
        cell = Both(W8A8(given["weight"], given["scale"], given[name], dtype))
        for kind, result in zip(("y", "dx"), cell(x, dout)):
            found[f"{kind} {name} {dtype}"] = result.astype(ms.float32).asnumpy()
    for kind, result in zip(("q", "s"), RoundRows(x.dtype)(x)):
        found[f"{kind} rows {dtype}"] = result.asnumpy()
np.savez(sys.argv[2], **found)
"""


def test_mindcoders_cells(tmp_path):
    """Both roundings in every dtype, and the rows of an int8 cache."""
    rng = np.random.default_rng(0)
    given = {
        "x": values(ROWS, INPUTS).numpy(),
        "dout": values(ROWS, OUTPUTS, seed=1).numpy(),
        "weight": integers(OUTPUTS, INPUTS).numpy(),
        "scale": rng.uniform(0.01, 0.02, (OUTPUTS, 1)).astype(np.float32),
        "dynamic": np.zeros(2, np.float32),
        "static": np.array([0.03, -9], np.float32),
    }
    (tmp_path / "program.py").write_text(PROGRAM)
    np.savez(tmp_path / "given.npz", **given)
    log = tmp_path / "log.jsonl"
    files = [str(tmp_path / name) for name in ("program.py", "given.npz", "found.npz")]
    (finished,) = run_on_emulator(files, log=log)
    assert finished.returncode == 0, finished.output[-4000:]
    found = np.load(tmp_path / "found.npz")
    weight = given["weight"].astype(np.float64) * given["scale"]
    for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-3), ("bfloat16", 2e-2)):
        x = torch.tensor(given["x"]).to(getattr(torch, dtype)).float().numpy()
        own = np.abs(x).max(1, keepdims=True) / np.float32(127)
        numbers = np.rint(x / own)
        np.testing.assert_array_equal(found[f"q rows {dtype}"], numbers)
        np.testing.assert_allclose(found[f"s rows {dtype}"], own[:, 0], rtol=1e-6)
        scale, offset = given["static"]
        static = (np.rint(np.clip(x * (np.float32(1) / scale) + offset, -128, 127)) - offset) * scale
        for name, rounded in (("dynamic", numbers * own), ("static", static)):
            expected = rounded @ weight.T
            assert np.abs(found[f"y {name} {dtype}"] - expected).max() < tolerance * np.abs(expected).max(), (
                name,
                dtype,
            )
            gradient = given["dout"] @ weight
            assert np.abs(found[f"dx {name} {dtype}"] - gradient).max() < 2 * tolerance * np.abs(gradient).max()
    text = log.read_text()
    assert text.count('"aclnnQuantMatmulV4"') == 4 and text.count('"aclnnAscendQuant"') == 5
    assert text.count('"aclnnDynamicQuant"') == 4 and '"aclop"' not in text
