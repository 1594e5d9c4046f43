"""softcann's product with a weight of integers against PyTorch, and MindCoder's cell that calls it."""

import ctypes

import numpy as np
import pytest
import torch

from softcann.environment import run_on_emulator
from softcann.testing import Refused, run

pytestmark = pytest.mark.long

ROWS, INPUTS, OUTPUTS = 5, 96, 7
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def values(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(bits=8):
    half = 2 ** (bits - 1)
    return torch.randint(-half, half, (OUTPUTS, INPUTS), generator=torch.Generator().manual_seed(3), dtype=torch.int8)


def product(x, weight, scale, offset, y, group=0, bias=None):
    run("aclnnWeightQuantBatchMatmulV2", x, weight, scale, offset, None, None, bias, ctypes.c_int(group), y)


def expand(numbers, group):
    """``[groups, n]`` or one for all as ``[k, n]``."""
    return numbers.double().reshape(-1, numbers.shape[-1]).repeat_interleave(group or INPUTS, 0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("turned", [False, True], ids=["contiguous", "transposed"])
def test_per_tensor_channel_and_group(dtype, turned):
    stored = integers()
    weight = stored.T if turned else stored.T.contiguous()
    x, y = values(ROWS, INPUTS).to(dtype), torch.empty(ROWS, OUTPUTS, dtype=dtype)
    for shape, group in [
        ((1,), 0),
        ((1, 1), 0),
        ((OUTPUTS,), 0),
        ((1, OUTPUTS), 0),
        ((3, OUTPUTS), 32),
        ((2, OUTPUTS), 64),
    ]:
        scale = (values(*shape, seed=1).abs() / 100).to(dtype)
        offset = (values(*shape, seed=2) * 20).round().to(dtype)
        for own in (None, offset):
            added = 0 if own is None else expand(own, group)[:INPUTS]
            expected = x.double() @ ((weight.double() + added) * expand(scale, group)[:INPUTS])
            product(x, weight, scale, own, y, group)
            assert (y.double() - expected).abs().max() < TOLERANCE[dtype] * expected.abs().max()
    bias = values(OUTPUTS, seed=4).to(torch.float32 if dtype == torch.bfloat16 else dtype)
    biased = torch.empty_like(y)
    product(x, weight, scale, offset, biased, group, bias)
    assert (biased.double() - y.double() - bias.double()).abs().max() < 2 * TOLERANCE[dtype] * expected.abs().max()


def test_what_the_page_does_not_allow_is_refused():
    x, y = values(ROWS, INPUTS).half(), torch.empty(ROWS, OUTPUTS).half()
    weight, scale = integers().T, values(OUTPUTS).half()
    groups = values(3, OUTPUTS).half()
    refused = [
        ((x.float(), weight, scale, None, y), "x: found float32"),
        ((x, weight, scale.bfloat16(), None, y), "antiquantScale: found bfloat16"),
        ((x, integers(), scale, None, y), "weight: found .*a reduced axis"),
        ((x, weight, scale[:3], None, y), "antiquantScale: found"),
        ((x, weight, groups, None, y), "antiquantScale: found"),
        ((x, weight, groups, None, y, 33), "antiquantGroupSize: found 33"),
        ((x, weight, groups, None, y, 96), "antiquantGroupSize: found 96"),
        ((x, weight, groups, None, y, 64), "antiquantScale: found"),
        ((x, weight, groups, groups[:2], y, 32), "antiquantOffsetOptional: found"),
        ((x, weight, scale, None, y[:, :3]), "y: found"),
        ((x, weight, scale, None, y, 0, scale.float()), "biasOptional: found float32"),
        ((x, integers().repeat(1, 2)[:, ::2].T, scale, None, y), "weight: found strides"),
    ]
    for arguments, message in refused:
        with pytest.raises(Refused, match=message):
            product(*arguments)


PROGRAM = """
import sys
import numpy as np
import mindspore as ms
from mindspore import Tensor, nn, ops
from mindcoder.backend.device import setup_device
setup_device("Ascend")
from mindcoder.backend.quant_operators import QuantizedProduct


class Both(nn.Cell):
    def __init__(self, shape, bits, dtype, has_offset):
        super().__init__(auto_prefix=False)
        self.own = QuantizedProduct(shape, bits, dtype, has_offset)

    def construct(self, x, dout, weight, scale, offset):
        return self.own(x, weight, scale, offset), self.own.gradient(dout, weight, scale, offset)


class Symmetric(Both):
    def construct(self, x, dout, weight, scale):
        return self.own(x, weight, scale), self.own.gradient(dout, weight, scale)


given, found = np.load(sys.argv[1]), {}
CASES = (8, 0, "bfloat16"), (8, 32, "float16"), (8, 32, "float32"), (4, 0, "float16"), (4, 32, "bfloat16")
for bits, group, dtype in CASES:
    x, dout = (Tensor(given[name]).astype(getattr(ms, dtype)) for name in ("x", "dout"))
    groups = [Tensor(given[f"{name}{group}"]) for name in ("scale", "offset")]
    weight = Tensor(given[f"weight{bits}"])
    for lowered in (False, True):
        shape = (dout.shape[1], x.shape[1], groups[0].shape[1])
        cell = (Both if lowered else Symmetric)(shape, bits, dtype, lowered)
        results = cell(x, dout, weight, *groups[: 1 + lowered])
        for name, result in zip(("y", "dx"), results):
            found[f"{name} {bits} {group} {lowered} {dtype}"] = result.astype(ms.float32).asnumpy()
np.savez(sys.argv[2], **found)
"""


def test_mindcoders_cell(tmp_path):
    """Forward and gradient, with groups and without; 8 bits in 16-bit floats by the operator."""
    rng = np.random.default_rng(0)
    eight, four = integers().numpy(), integers(4).numpy()
    unsigned = (four + 8).astype(np.uint8)
    given = {"x": values(ROWS, INPUTS).numpy(), "dout": values(ROWS, OUTPUTS, seed=1).numpy(), "weight8": eight}
    given["weight4"] = unsigned[:, ::2] | unsigned[:, 1::2] << 4
    for group in (0, 32):
        groups = INPUTS // group if group else 1
        given[f"scale{group}"] = rng.uniform(0.01, 0.02, (OUTPUTS, groups))
        given[f"offset{group}"] = rng.integers(-5, 5, (OUTPUTS, groups))
    given = {name: item if "weight" in name else item.astype(np.float32) for name, item in given.items()}
    (tmp_path / "program.py").write_text(PROGRAM)
    np.savez(tmp_path / "given.npz", **given)
    log = tmp_path / "log.jsonl"
    files = [str(tmp_path / name) for name in ("program.py", "given.npz", "found.npz")]
    (finished,) = run_on_emulator(files, log=log)
    assert finished.returncode == 0, finished.output[-4000:]
    found = np.load(tmp_path / "found.npz")
    assert len(found) == 20
    for name, result in found.items():
        kind, bits, group, lowered, dtype = name.split()
        size = int(group) or INPUTS
        weight = (eight if bits == "8" else four).astype(float)
        if lowered == "True":
            weight -= np.repeat(given[f"offset{group}"], size, 1)
        weight *= np.repeat(given[f"scale{group}"], size, 1)
        expected = given["x"] @ weight.T if kind == "y" else given["dout"] @ weight
        tolerance = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
        assert np.abs(result - expected).max() < tolerance * np.abs(expected).max(), name
    text = log.read_text()
    assert text.count('"aclnnWeightQuantBatchMatmulV2"') == 4
    assert '"aclop"' not in text
