"""Products of activations and weights in 8-bit integers in C++: to the bit those of numpy's integers."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from native_calls import OTHER_LIBRARY, pytest_command

LIBRARY = Path(os.environ.get(OTHER_LIBRARY) or Path(__file__).parents[2] / "mindcoder/native/libmindcoder_cpu.so")
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64
# outputs, inputs: odd sizes, and whole steps of every processor
SIZES = [(1, 1), (5, 31), (33, 701), (7, 64), (64, 2048), (35, 4111)]
DYNAMIC, STATIC, LOWERED = (0.0, 0.0), (0.03, 0.0), (0.02, -19.0)


@pytest.fixture(scope="module")
def library():
    try:
        return load_library()
    except OSError:
        pytest.skip("the C++ operators are not built (no compiler)")


def load_library() -> ctypes.CDLL:
    found = ctypes.CDLL(str(LIBRARY))
    found.MindCoderInt8Linear.argtypes = [LONG] * 4 + [POINTER] * 6
    return found


def draw(rows: int, outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Activations, not centred, weight, scales and bias; both ends of the integers are among the weights."""
    rng = np.random.default_rng(outputs + inputs)
    weight = rng.integers(-128, 128, (outputs, inputs), dtype=np.int8)
    weight[0] = -128
    x = rng.standard_normal((rows, inputs)).astype(np.float32) + np.float32(0.3)
    x[0] = -3.0
    return x, weight, rng.uniform(0.5, 2, outputs).astype(np.float32) / 128, rng.standard_normal(outputs).astype("f4")


def multiply(library, x, weight, scale, rounding, prompts: int, bias=None) -> np.ndarray:
    """By the library."""
    y, own = np.full((len(x), len(weight)), np.nan, np.float32), np.array(rounding, np.float32)
    status = library.MindCoderInt8Linear(
        *(len(x), prompts, *weight.shape, x.ctypes.data, weight.ctypes.data, scale.ctypes.data, own.ctypes.data),
        *(None if bias is None else bias.ctypes.data, y.ctypes.data),
    )
    assert status == 0
    return y


def rounded(x: np.ndarray, rounding) -> tuple[np.ndarray, np.ndarray]:
    """Integers less their offset, and the scale of each row."""
    scale, offset = map(np.float32, rounding)
    if scale == 0:
        own = np.abs(x).max(1, keepdims=True) / np.float32(127)
        return np.rint(x / np.where(own == 0, 1, own)).astype(np.int64), own
    q = np.rint(np.clip(x * (np.float32(1) / scale) + offset, -128, 127))
    return (q - offset).astype(np.int64), np.full((len(x), 1), scale)


@pytest.mark.parametrize("rounding", [DYNAMIC, STATIC, LOWERED], ids=["dynamic", "static", "offset"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_sums_are_exact(library, size, rounding):
    for rows in (1, 2, 3, 5, 40):
        x, weight, scale, bias = draw(rows, *size)
        if rows == 3:
            x[1] = 0
        q, own = rounded(x, rounding)
        expected = (q @ weight.T.astype(np.int64)).astype(np.float32) * scale * own + bias
        for prompts in {0, rows, 1}:
            np.testing.assert_array_equal(multiply(library, x, weight, scale, rounding, prompts, bias), expected)


def test_a_row_has_the_same_bits_beside_any_others(library):
    x, weight, scale, _ = draw(150, 37, 1440)
    whole = multiply(library, x, weight, scale, DYNAMIC, len(x))
    for rows in (1, 2, 3, 17, 64):
        for prompts in (0, rows):
            np.testing.assert_array_equal(multiply(library, x[:rows], weight, scale, DYNAMIC, prompts), whole[:rows])


@pytest.mark.parametrize("environment", [{"MINDCODER_TILES": "0"}])
def test_other_kernels(environment):
    """Vectors where this processor has tiles."""
    command = [sys.executable, *pytest_command(__file__, "exact and 701 or exact and 4111")]
    found = subprocess.run(command, env=here() | environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:]


def here() -> dict[str, str]:
    """The environment of a process that imports what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_the_number_of_threads_changes_no_bit(library):
    def digest(threads: int) -> str:
        environment = here() | {"MINDCODER_THREADS": str(threads)}
        command = [sys.executable, "-c", "import test_int8_linear as test; test.print_digest()"]
        found = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert digest(1) == digest(2) == digest(3)


def print_digest() -> None:
    """Of some products, in a process of its own."""
    library, result = load_library(), hashlib.sha256()
    for rows in (1, 3, 120):
        x, weight, scale, _ = draw(rows, 301, 1304)
        result.update(multiply(library, x, weight, scale, DYNAMIC, rows).tobytes())
    print(result.hexdigest())


def test_too_many_inputs_are_refused(library):
    x, weight, scale, _ = draw(1, 1, 65536)
    own, y = np.zeros(2, np.float32), np.zeros((1, 1), np.float32)
    pointers = [item.ctypes.data for item in (x, weight, scale, own)]
    assert library.MindCoderInt8Linear(1, 0, 1, 65536, *pointers, None, y.ctypes.data) == 1
