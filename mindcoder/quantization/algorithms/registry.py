"""The algorithms by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from mindcoder.checkpoint.quantized.format import Integers
from mindcoder.quantization.algorithms.minmax import minmax
from mindcoder.quantization.algorithms.mse import mse

# float32 [rows, groups, size] -> scale and offset, both float32 [rows, groups]
Algorithm: TypeAlias = "Callable[[np.ndarray, Integers], tuple[np.ndarray, np.ndarray]]"
# Scales, float32, as the file will have them
Rounding: TypeAlias = "Callable[[np.ndarray], np.ndarray]"

ALGORITHMS: Mapping[str, Algorithm] = {"minmax": minmax, "mse": mse}
GPTQ, AWQ = "gptq", "awq"
FROM_DATA = (GPTQ, AWQ)  # see `mindcoder.quantization.calibrated`
NAMES = (*ALGORITHMS, *FROM_DATA)
