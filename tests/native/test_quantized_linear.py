"""Products with weights of 8 and 4 bits in C++ against float64, and against themselves beside other rows."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from native_calls import OTHER_LIBRARY, pytest_command

LIBRARY = Path(os.environ.get(OTHER_LIBRARY) or Path(__file__).parents[2] / "mindcoder/native/libmindcoder_cpu.so")
POINTER, INT, LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
# outputs, inputs, groups: odd sizes, more inputs than are summed at once, groups as large as them and larger
PER_CHANNEL = [(1, 1, 1), (5, 31, 1), (33, 701, 1), (7, 1030, 1), (64, 2048, 1)]
GROUPED = [(3, 64, 2), (17, 1344, 42), (9, 384, 3), (30, 2304, 18), (8, 2560, 10), (6, 1024, 1), (5, 4608, 3)]


@pytest.fixture(scope="module")
def library():
    try:
        return load_library()
    except OSError:
        pytest.skip("the C++ operators are not built (no compiler)")


def load_library() -> ctypes.CDLL:
    found = ctypes.CDLL(str(LIBRARY))
    function = found.MindCoderQuantizedLinear
    function.argtypes = [LONG] * 4 + [POINTER, POINTER, INT, POINTER, POINTER, LONG, POINTER, POINTER]
    return found


@dataclass
class Weight:
    """Integers ``[out, in]``, scales and offsets ``[out, groups]``."""

    integers: np.ndarray
    bits: int
    scale: np.ndarray
    offset: np.ndarray | None

    def stored(self) -> np.ndarray:
        """As the library takes them."""
        if self.bits == 8:
            return self.integers
        unsigned = (self.integers + 8).astype(np.uint8)
        return np.ascontiguousarray(unsigned[:, ::2] | unsigned[:, 1::2] << 4)

    def values(self) -> np.ndarray:
        """What the integers stand for, in float64."""
        size = self.integers.shape[1] // self.scale.shape[1]
        scale = np.repeat(self.scale.astype(np.float64), size, 1)
        lowered = self.integers if self.offset is None else self.integers - np.repeat(self.offset, size, 1)
        return lowered * scale


def draw(outputs: int, inputs: int, groups: int, bits: int, lowered: bool) -> Weight:
    rng = np.random.default_rng(outputs + inputs)
    half = 2 ** (bits - 1)
    integers = rng.integers(-half, half, (outputs, inputs), dtype=np.int8)
    scale = rng.uniform(0.5, 2, (outputs, groups)).astype(np.float32) / half
    offset = rng.integers(-half, half, (outputs, groups)).astype(np.float32) if lowered else None
    return Weight(integers, bits, scale, offset)


def multiply(library, x: np.ndarray, weight: Weight, prompts: int, bias: np.ndarray | None = None) -> np.ndarray:
    (rows, inputs), outputs = x.shape, weight.integers.shape[0]
    y, stored = np.full((rows, outputs), np.nan, np.float32), weight.stored()
    offset = None if weight.offset is None else weight.offset.ctypes.data
    status = library.MindCoderQuantizedLinear(
        *(rows, prompts, outputs, inputs, x.ctypes.data, stored.ctypes.data, int(weight.bits == 4)),
        *(weight.scale.ctypes.data, offset, weight.scale.shape[1]),
        *(None if bias is None else bias.ctypes.data, y.ctypes.data),
    )
    assert status == 0
    return y


def activations(rows: int, inputs: int) -> np.ndarray:
    """Not centred, so that offsets count."""
    return np.random.default_rng(inputs).standard_normal((rows, inputs)).astype(np.float32) + np.float32(0.3)


@pytest.mark.parametrize("lowered", [False, True], ids=["symmetric", "offsets"])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("size", PER_CHANNEL + GROUPED, ids=lambda size: "x".join(map(str, size)))
def test_product_equals_float64s(library, size, bits, lowered):
    outputs, inputs, groups = size
    if bits == 4:
        inputs += inputs % 2
    weight = draw(outputs, inputs, groups, bits, lowered)
    bias = activations(1, outputs)[0]
    for rows in (1, 2, 3, 20):
        x = activations(rows, inputs)
        expected = x @ weight.values().T + bias
        # of the sum of magnitudes: the rounding of float32 sums
        magnitude = np.abs(x).astype(np.float64) @ np.abs(weight.values()).T + 1
        for prompts in {0, rows, 1}:
            found = multiply(library, x, weight, prompts, bias)
            assert np.abs((found - expected) / magnitude).max() < 2e-6, (rows, prompts)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_row_has_the_same_bits_beside_any_others(library, bits):
    for groups in (1, 45):
        weight, x = draw(37, 1440, groups, bits, True), activations(40, 1440)
        for prompts in (False, True):
            whole = multiply(library, x, weight, len(x) if prompts else 0)
            for rows in (1, 2, 3, 8, 17):
                part = multiply(library, x[:rows], weight, rows if prompts else 0)
                np.testing.assert_array_equal(part, whole[:rows])


def test_groups_that_are_not_known_are_refused(library):
    weight, x, y = np.zeros((2, 96), np.int8), np.zeros((1, 96), np.float32), np.zeros((1, 2), np.float32)
    scale = np.ones((2, 6), np.float32)
    given = (x.ctypes.data, weight.ctypes.data)
    for inputs, half_bytes, groups in ((96, 0, 6), (96, 0, 5), (95, 1, 1), (96, 0, 0)):
        found = library.MindCoderQuantizedLinear(
            1, 0, 2, inputs, *given, half_bytes, scale.ctypes.data, None, groups, None, y.ctypes.data
        )
        assert found == 1


@pytest.mark.parametrize("environment", [{"MINDCODER_TILES": "0"}])
def test_other_kernels(environment):
    """Vectors where this processor has tiles."""
    command = [sys.executable, *pytest_command(__file__, "float64s and 2304 or float64s and 1030")]
    found = subprocess.run(command, env=here() | environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:]


def here() -> dict[str, str]:
    """The environment of a process that imports what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_the_number_of_threads_changes_no_bit(library):
    def digest(threads: int) -> str:
        environment = here() | {"MINDCODER_THREADS": str(threads)}
        command = [sys.executable, "-c", "import test_quantized_linear as test; test.print_digest()"]
        found = subprocess.run(command, env=environment, cwd=Path(__file__).parent, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert digest(1) == digest(2) == digest(3)


def print_digest() -> None:
    """Of some products, in a process of its own."""
    library, result = load_library(), hashlib.sha256()
    for bits in (8, 4):
        for rows in (1, 3, 30, 120):
            weight, x = draw(301, 2304, 18, bits, True), activations(rows, 2304)
            for prompts in (0, rows):
                result.update(multiply(library, x, weight, prompts).tobytes())
    print(result.hexdigest())
