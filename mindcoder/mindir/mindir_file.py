"""MindIR files of one network: a file for each graph, and one for the weights that all of them name.

`mindspore.export` writes the weights into every file, or beside every one that is larger than 1 GB. Here its
``custom_func`` takes the parameters out of the graph before it writes, and they are put back with the place of their
values in the common file, which is laid out as MindSpore's own (`mindspore/train/serialization.py`, ``_split_save``):
64 bytes of which the first is 1 on a little-endian machine, then the values, each at a multiple of 64.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto

from mindcoder.backend.device import signals_held
from mindcoder.generate.kv_pools import is_pool

ALIGNMENT = 64
Progress = Callable[[int], object]


class VariablesFile:
    """The values of all parameters, each written when first asked for. Caches, which are zero, take no disk space.

    Args:
        folder: of the graphs.
        name: of the file, relative to ``folder``.
        progress: called with the bytes written.
    """

    def __init__(self, folder: Path, name: str, progress: Progress) -> None:
        self.path, self.name, self._progress = folder / name, name, progress
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> VariablesFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = open(self.path, "wb")  # noqa: SIM115
        self._stream.write(bytes([sys.byteorder == "little"]).ljust(ALIGNMENT, b"\0"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.truncate(self._stream.tell())
        self._stream.close()

    def place(self, parameter: Parameter) -> tuple[int, int]:
        """Offset and length of the values in bytes."""
        if parameter.name not in self._places:
            values = parameter.asnumpy()
            begin = self._stream.tell()
            if is_pool(parameter.name):
                self._stream.seek(values.nbytes, 1)
            else:
                self._stream.write(np.ascontiguousarray(values).data)
                self._progress(values.nbytes)
            self._stream.seek(-values.nbytes % ALIGNMENT, 1)
            self._places[parameter.name] = begin, values.nbytes
        return self._places[parameter.name]


def write_graph(cell: nn.Cell, inputs: Iterable[Tensor], file: Path, variables: VariablesFile) -> None:
    """Compile ``cell`` for ``inputs`` and write its graph. Ctrl-C takes effect after the compilation.

    Args:
        file: ends with ``.mindir``, in the folder of ``variables``.
    """
    held: list[Any] = []

    def take(model: Any) -> None:
        held.extend(model.graph.parameter)
        del model.graph.parameter[:]

    # MindSpore refuses a path with characters that are not of ASCII.
    with tempfile.TemporaryDirectory(prefix="mindir-") as folder:
        written = Path(folder) / "graph.mindir"
        with signals_held():  # an exception within the compiler prints its trace and leaves rank_0/ in this folder
            ms.export(cell, *inputs, file_name=str(written), file_format="MINDIR", custom_func=take)
        model = ModelProto()
        model.ParseFromString(written.read_bytes())
    parameters = cell.parameters_dict()
    for tensor in held:
        offset, length = variables.place(parameters[tensor.name.partition(":")[2] or tensor.name])
        tensor.external_data.location = variables.name
        tensor.external_data.offset, tensor.external_data.length = offset, length
    model.graph.parameter.extend(held)
    file.write_bytes(model.SerializeToString())
