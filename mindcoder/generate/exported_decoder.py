"""The graphs of an exported model, run by MindSpore's GraphCell, as a decoder's step."""

from __future__ import annotations

import logging
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindcoder.errors import UserError, single_line
from mindcoder.generate.blocks import SCRATCH
from mindcoder.generate.exported_manifest import ExportedManifest, Graph
from mindcoder.generate.kv_pools import is_pool
from mindcoder.generate.shape_buckets import ShapeBuckets, fitting, read_buckets

log = logging.getLogger(__name__)
DYNAMIC = "dynamic"  # name of the graph of any shape


class ExportedDecoder:
    """Stands for the network whose graphs are in a folder.

    Args:
        folder: that `mindcoder.export` has written.
        manifest: of the folder.

    Attributes:
        buckets: shapes that steps of a graph of any shape are padded to; None without.

    Raises:
        UserError: their files are damaged.
    """

    prefix_length = 0  # a model with a learned prefix is not exported

    def __init__(self, folder: Path, manifest: ExportedManifest) -> None:
        self.folder, self.manifest, self.config = folder, manifest, manifest.config
        self.weights: dict[str, Parameter] = {}  # shared by all graphs; those of the first one loaded
        graph = manifest.graphs.get(DYNAMIC)
        self.buckets = None if graph is None else read_buckets(folder, manifest.inputs(graph))

    def fitting(self, batch: int, max_length: int, chunk: int) -> tuple[int, int]:
        """Sequences and tokens of a step, for an engine that asks for these sizes: graphs of fixed shapes have theirs.

        Raises:
            UserError: they have no room for such a length.
        """
        manifest = self.manifest
        if max_length > manifest.max_length:
            raise UserError(
                f"was exported with --max_length {manifest.max_length}; {max_length} needs another export", self.folder
            )
        if manifest.is_dynamic:
            return batch, chunk
        if batch > manifest.batch:
            log.warning(
                "%d sequences are computed together, not %d: %s was exported with --batch %d",
                *(manifest.batch, batch, self.folder, manifest.batch),
            )
        return manifest.batch, manifest.chunk

    def steps(self, blocks: int, block_size: int) -> GraphSteps:
        """Steps with a cache of their own.

        Raises:
            UserError: the exported cache has fewer blocks, or of another size.
        """
        manifest = self.manifest
        if blocks > manifest.blocks or block_size != manifest.block_size:
            raise UserError(
                f"was exported with {manifest.blocks} cache blocks of {manifest.block_size} tokens; requested: "
                f"{blocks} of {block_size}",
                self.folder,
            )
        return GraphSteps(self)

    def load(self, graph: Graph, state: dict[str, Parameter]) -> nn.GraphCell:
        """A graph that has its weights and its cache in common with those loaded before.

        GraphCell's ``params_init`` would copy the values.

        Args:
            state: the cache, by name; empty before the first graph.

        Raises:
            UserError: MindSpore cannot read the file.
        """
        file = self.folder / graph.file
        try:
            cell = nn.GraphCell(ms.load(str(file.resolve())))
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(f"MindSpore cannot load it: {single_line(str(error), 200)}", file) from None
        for name, parameter in cell.parameters_dict().items():
            known = state if is_pool(name) else self.weights
            if name in known:
                parameter.assign_value(known[name])
            else:
                known[name] = parameter
        return cell


class GraphSteps:
    """`mindcoder.generate.operator_decoder.OperatorDecoder`'s contract; graphs are loaded when first needed.

    Args:
        decoder: whose graphs they are.
    """

    supports_mixed_batches = False

    def __init__(self, decoder: ExportedDecoder) -> None:
        self.decoder = decoder
        self._state: dict[str, Parameter] = {}
        self._loaded: dict[str, nn.GraphCell] = {}

    def set_train(self, training: bool) -> None:
        """There is nothing to switch: the graphs were exported for inference."""

    def __call__(
        self,
        inputs: Tensor,
        mapping: Tensor,
        block_tables: Tensor,
        angles: Tensor,
        logits_indices: Tensor,
        counts: Tensor,
    ) -> Tensor:
        """One step; see `mindcoder.generate.operator_decoder.OperatorDecoder`."""
        manifest = self.decoder.manifest
        tables = np.full((block_tables.shape[0], manifest.blocks_per_row), SCRATCH, np.int32)
        tables[:, : block_tables.shape[1]] = block_tables.asnumpy()
        positions, slots = mapping.asnumpy()[:2]
        taken = [inputs, Tensor(positions), Tensor(slots), Tensor(tables), logits_indices]
        if manifest.config.position == "rope":
            taken.append(angles)
        if self.decoder.buckets is not None:
            taken = _in_buckets(self.decoder.buckets, taken, *map(int, counts.asnumpy()[:2]))
            return self._graph((0, 0, 0))(*taken)
        graph = self._graph((inputs.shape[0], tables.shape[0], logits_indices.shape[0]))
        return graph(*taken)

    def _graph(self, shape: tuple[int, int, int]) -> nn.GraphCell:
        graphs = self.decoder.manifest.graphs
        name = next((name for name, graph in graphs.items() if graph.takes(*shape)), None)
        if name is None:
            tokens, rows, logits = shape
            raise UserError(
                f"has no graph of {tokens} tokens in {rows} sequences with {logits} logits", self.decoder.folder
            )
        if name not in self._loaded:
            self._loaded[name] = self.decoder.load(graphs[name], self._state)
        return self._loaded[name]


def _in_buckets(buckets: ShapeBuckets, taken: list[Tensor], tokens: int, logits: int) -> list[Tensor]:
    """A step's inputs without the padding beyond the smallest bucket; as they are if there is none.

    Args:
        taken: ids, positions, slots, block tables, indices of the logits, and angles if there are any.
        tokens, logits: how many of them are meant.
    """
    length, rows, most = taken[0].shape[0], taken[3].shape[0], taken[4].shape[0]
    decodes = length == rows  # a token of each sequence, whose logits are wanted
    size = fitting(buckets.batches if decodes else buckets.lengths, tokens)
    if size is None or size > length or (not decodes and (rows > 1 or logits > 1)):
        return taken
    sizes = (size, size, size, size if decodes else rows, min(size, most) if decodes else 1, size)
    return [Tensor(item.asnumpy()[:count]) for item, count in zip(taken, sizes)]
