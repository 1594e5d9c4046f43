"""The formats that quantized models are written in, by name."""

from __future__ import annotations

from collections.abc import Mapping

from mindcoder.checkpoint.quantized.bitsandbytes_output import BitsAndBytes
from mindcoder.checkpoint.quantized.compressed_tensors_output import CompressedTensors
from mindcoder.checkpoint.quantized.format import QuantizedFormat
from mindcoder.checkpoint.quantized.msmodelslim import MsModelSlim

FORMATS: Mapping[str, QuantizedFormat] = {
    form.name: form for form in (MsModelSlim(), CompressedTensors(), BitsAndBytes())
}
