"""A linear layer on its way into a file of NF4."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mindcoder.backend.nf4 import BLOCK, CODES, to_codes
from mindcoder.quantization.layer import QuantizedLayer, float_rows


class Nf4Layer(QuantizedLayer):
    """`QuantizedLayer` of codes; its scales are in float32 here, the format makes bytes of them.

    What is measured is the error of the codes; that of the scales' bytes, about a thousandth of them, is not in it.
    """

    def encoded(self) -> Iterator[np.ndarray]:
        """Quantize; rows of codes as the file has them."""
        for begin, weight in float_rows(self.plan):
            self.check_finite(begin, weight)
            blocks = weight.reshape(len(weight), -1, BLOCK)
            codes, absmax = to_codes(blocks)
            self.scale[begin : begin + len(weight)] = absmax
            self.measured.add(blocks, CODES[codes] * absmax[:, :, None])
            yield self.form.encode(codes.reshape(len(weight), -1), self.integers)
