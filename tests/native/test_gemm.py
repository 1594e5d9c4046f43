"""Matrix products in C++ against float64: every storage, dtype and kernel, odd sizes; and MindSpore's operators."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from native_calls import pytest_command

LIBRARY = Path(
    os.environ.get("MINDCODER_LIBRARY") or Path(__file__).parents[2] / "mindcoder/native/libmindcoder_cpu.so"
)
SIZES = [(1, 1, 1), (3, 17, 5), (17, 3, 701), (33, 65, 1), (70, 50, 1030), (701, 17, 33), (40, 96, 2050), (64, 96, 64)]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# of the largest element of the result: rounding of the sums, or of the stored result
TOLERANCE = {"float32": 1.5e-6, "bfloat16": 4.5e-3, "float16": 6e-4}
POINTER, INT, LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


@pytest.fixture(scope="module")
def library():
    try:
        return load_library()
    except OSError:
        pytest.skip("the C++ operators are not built (no compiler)")


def load_library() -> ctypes.CDLL:
    found = ctypes.CDLL(str(LIBRARY))
    function = found.MindCoderGemm
    function.argtypes = [LONG] * 4 + [POINTER, INT, INT] * 2 + [POINTER, INT, POINTER, INT, INT]
    function.restype = None
    return found


def random(*shape: int, dtype: str = "float32", seed: int = 0) -> torch.Tensor:
    numbers = np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(numbers).to(DTYPES[dtype])


def gemm(library, a, b, turned=(False, False), out="float32", bias=None, onto=None, terms=3):
    """``a`` [batch, m, k] times ``b`` [batch, k, n]; ``turned`` tells which are stored the other way round."""
    (batch, m, k), n = a.shape, b.shape[2]
    stored = [(x.transpose(1, 2) if turn else x).contiguous() for x, turn in zip((a, b), turned)]
    c = torch.full((batch, m, n), torch.nan, dtype=DTYPES[out]) if onto is None else onto.clone()
    given = [(x.data_ptr(), int(x.dtype == torch.bfloat16), int(turn)) for x, turn in zip(stored, turned)]
    bias_at = None if bias is None else bias.data_ptr()
    brain = int(out == "bfloat16")
    library.MindCoderGemm(
        batch, m, n, k, *given[0], *given[1], c.data_ptr(), brain, bias_at, int(onto is not None), terms
    )
    return c


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert not found.isnan().any()
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_product_equals_float64s(library, size, dtype):
    m, n, k = size
    bias = random(n)
    for batch in (1, 5):
        a, b = random(batch, m, k, dtype=dtype), random(batch, k, n, dtype=dtype, seed=1)
        expected = a.double() @ b.double()
        for turned in ((False, False), (False, True), (True, False), (True, True)):
            assert error(gemm(library, a, b, turned), expected) < TOLERANCE["float32"]
            brain = gemm(library, a, b, turned, out="bfloat16", bias=bias)
            assert error(brain, expected + bias) < TOLERANCE["bfloat16"]
        onto = random(batch, m, n, seed=2)
        assert error(gemm(library, a, b, bias=bias, onto=onto), expected + bias + onto) < TOLERANCE["float32"]


def test_mixed_dtypes_and_no_depth(library):
    a, b, bias = random(1, 40, 70), random(1, 70, 33, dtype="bfloat16"), random(33)
    assert error(gemm(library, a, b), a.double() @ b.double()) < TOLERANCE["float32"]
    empty = gemm(library, random(2, 3, 0), random(2, 0, 33), bias=bias)
    assert torch.equal(empty, bias.expand(2, 3, 33))


@pytest.mark.parametrize("depth", [768, 12288])  # one chain of sums over all of 12288 had 2.4 times PyTorch's error
def test_float32_is_as_accurate_as_pytorchs(library, depth):
    """Root mean square over all elements; two terms of bfloat16 instead of three have 16 bits."""
    a, b = random(1, 96, depth), random(1, depth, 96, seed=1)
    expected = a.double() @ b.double()

    def deviation(found):
        return float((found.double() - expected).pow(2).mean().sqrt())

    assert deviation(gemm(library, a, b)) < 2 * deviation(a @ b)
    assert deviation(gemm(library, a, b, terms=2)) < 2e-5 * float(expected.pow(2).mean().sqrt())


def test_large_and_small_numbers(library):
    a, b = random(1, 64, 64) * 1e18, random(1, 64, 64, seed=1) * 1e-12
    assert error(gemm(library, a, b), a.double() @ b.double()) < TOLERANCE["float32"]
    a[0, 0, 0] = torch.inf
    assert not gemm(library, a, b)[0, 0].isfinite().any()  # an overflow is seen


@pytest.mark.parametrize("kernel", [{"MINDCODER_TILES": "0"}, {"MINDCODER_TILES": "0", "MINDCODER_PAIRS": "1"}])
def test_other_kernels(kernel):
    """What this processor has but does not choose: vectors instead of tiles, pairs of bfloat16."""
    run_again("float64s or mixed or accurate or large", kernel)


def here() -> dict[str, str]:
    """The environment of a process that imports what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def run_again(names: str, environment: dict[str, str]) -> None:
    command = [sys.executable, *pytest_command(__file__, names)]
    found = subprocess.run(command, env=here() | environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:]


def test_the_number_of_threads_changes_no_bit(library):
    def digest(threads: int) -> str:
        environment = here() | {"MINDCODER_THREADS": str(threads)}
        command = [sys.executable, "-c", "import test_gemm; test_gemm.print_digest()"]
        found = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert digest(1) == digest(3)


def print_digest() -> None:
    """Of some products, in a process of its own."""
    found = load_library()
    result = hashlib.sha256()
    for dtype in ("float32", "bfloat16"):
        for batch, size in ((1, 300), (8, 100)):
            a, b = random(batch, size, 1500, dtype=dtype), random(batch, 1500, size, dtype=dtype)
            result.update(gemm(found, a, b, (True, False)).numpy().tobytes())
    print(result.hexdigest())
