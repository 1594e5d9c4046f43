"""What quantization did to every layer: a table, and a JSON file beside the weights."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mindcoder.quantization.algorithms.sparse import SMALL

REPORT_FILE = "quantization_report.json"
FLOAT = "float"


@dataclass(frozen=True)
class LayerReport:
    """One module.

    Attributes:
        module: Hugging Face's name.
        bits: of its integers; 0 if it stays in floating point.
        group_size: inputs that share a scale; 0 if all of an output do.
        error: norm of the weight's change divided by the weight's.
        low, high: range of the weight.
        reason: why it stays in floating point.
        output_error: norm of the change of its outputs on the calibration texts divided by theirs; None without texts.
        zeros, small: shares of its integers that are zero, and that fit into 4 bits; None if these are not counted.
    """

    module: str
    bits: int = 0
    group_size: int = 0
    error: float = 0.0
    low: float = 0.0
    high: float = 0.0
    reason: str = ""
    output_error: float | None = None
    zeros: float | None = None
    small: float | None = None

    def counted(self, numbers: np.ndarray | None) -> LayerReport:
        """The same with the shares of integers, int8 ``[out, in]``; as it is for None."""
        if numbers is None:
            return self
        small = float((np.abs(numbers.astype(np.int16)) <= SMALL).mean())
        return replace(self, zeros=float((numbers == 0).mean()), small=small)

    def kept(self, reason: str) -> LayerReport:
        """The same layer in floating point, with what it would have had in integers."""
        return replace(self, bits=0, group_size=0, reason=reason)


@dataclass(frozen=True)
class QuantizationReport:
    """A quantized model.

    Attributes:
        method: ``W8A16``, ``W4A16``, ``W8A8`` or ``W8A8_DYNAMIC``.
        algorithm, symmetric, format: as asked for.
        layers: those in integers, in the model's order.
        kept: modules in floating point, with the reason.
        bytes_before, bytes_after: of all tensors.
        kv: ``int8`` if there are scales of keys and values; else empty.
    """

    method: str
    algorithm: str
    symmetric: bool
    format: str
    layers: Sequence[LayerReport]
    kept: Sequence[LayerReport]
    bytes_before: int
    bytes_after: int
    kv: str = ""

    @property
    def worst(self) -> LayerReport:
        """The layer with the largest error."""
        return max(self.layers, key=lambda layer: layer.error)

    def lines(self) -> list[str]:
        """The table, and one line about the whole."""
        width = max(len(layer.module) for layer in (*self.layers, *self.kept))
        calibrated = any(layer.output_error is not None for layer in self.layers)
        rows = [
            f"{'module':{width}}  {'bits':>5}  {'group':>5}  {'error':>7}  {'output   ' if calibrated else ''}range"
        ]
        for layer in _by_layer(self.layers):
            group = str(layer.group_size) if layer.group_size else "row"
            output = "" if layer.output_error is None else f"{layer.output_error:7.2%}  "
            rows.append(
                f"{layer.module:{width}}  {layer.bits:5}  {group:>5}  {layer.error:7.2%}  {output}"
                f"{layer.low:.4g} to {layer.high:.4g}"
            )
        rows += [f"{layer.module:{width}}  {FLOAT:>5}  {layer.reason}" for layer in _by_layer(self.kept)]
        is_sparse = any(layer.zeros is not None for layer in self.layers)
        return [*rows, self.summary(), *([self.sparsity()] if is_sparse else [])]

    def sparsity(self) -> str:
        """One line about sparse integers, and what they are good for."""
        zeros, small = (
            sum(getattr(layer, name) or 0.0 for layer in self.layers) / len(self.layers) for name in ("zeros", "small")
        )
        return (
            f"{zeros:.1%} of the integers are zero, {small:.1%} fit into 4 bits; they take 8 bits each and are not "
            "compressible except by the compression unit of an Atlas 300I DUO"
        )

    def summary(self) -> str:
        """One line about the whole."""
        mean = sum(layer.error for layer in self.layers) / len(self.layers)
        outputs = [layer.output_error for layer in self.layers if layer.output_error is not None]
        output = f", output error {sum(outputs) / len(outputs):.2%} on average" if outputs else ""
        cache = f"; keys and values in {self.kv}" if self.kv else ""
        return (
            f"{self.method}, {self.algorithm}, {'symmetric' if self.symmetric else 'asymmetric'}: "
            f"{len(self.layers)} linear layers, weight error {mean:.2%} on average, {self.worst.error:.2%} at most "
            f"({self.worst.module}){output}{cache}; {self.bytes_before / 1e6:.1f} MB -> {self.bytes_after / 1e6:.1f} MB"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write `REPORT_FILE` into ``folder``."""
        (folder / REPORT_FILE).write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")


def _by_layer(modules: Sequence[LayerReport]) -> list[LayerReport]:
    """Sorted by the number in their names; those without one come last."""

    def number(item: LayerReport) -> int:
        found = re.search(r"\.(\d+)\.", item.module)
        return int(found[1]) if found else sys.maxsize

    return sorted(modules, key=number)
