"""``mindir.json``: what the graphs of an exported model take, and where they are."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig, config_from_dict
from mindcoder.files import json_kind, read_json_object, write_text
from mindcoder.locations import EXPORTED

VERSION = 1
SIZES = ("batch", "chunk", "max_length", "blocks", "block_size")
KEYS = ("version", "made_by", *SIZES, "stop_ids", "quantization", "state", "graphs", "files", "config")
GRAPHS = (("prefill", "decode", "score"), ("dynamic",))  # what an export consists of
GRAPH_KEYS = ("file", "tokens", "rows", "logits", "inputs", "output")


@dataclass(frozen=True)
class Graph:
    """One MindIR file.

    Attributes:
        file: in the folder of the manifest.
        tokens: of a step, Q; None if the graph takes any number, here and below.
        rows: sequences of a step, B.
        logits: tokens whose logits it computes, I.
    """

    file: str
    tokens: int | None = None
    rows: int | None = None
    logits: int | None = None

    @property
    def is_dynamic(self) -> bool:
        """Whether it takes steps of all shapes."""
        return self.tokens is None

    def takes(self, tokens: int, rows: int, logits: int) -> bool:
        """Whether a step has its shape."""
        return self.is_dynamic or (tokens, rows, logits) == (self.tokens, self.rows, self.logits)


@dataclass(frozen=True)
class ExportedManifest:
    """Description of an exported model.

    Attributes:
        config: architecture; its dtypes are those of the graphs.
        batch: sequences that a decoding step computes together; a dynamic graph takes any number.
        chunk: tokens of a prompt that a step computes; likewise.
        max_length: prompt and answer together, in tokens.
        blocks: of the KV cache, the scratch block included.
        block_size: tokens of a block.
        stop_ids: each ends an answer.
        graphs: by name: ``prefill``, ``decode`` and ``score``, or ``dynamic``.
        files: bytes of every file that the graphs need, by name.
        quantization: how they keep the weights of linear layers, ``W8A16``; empty in floating point.
    """

    config: TransformerConfig
    batch: int
    chunk: int
    max_length: int
    blocks: int
    block_size: int
    stop_ids: tuple[int, ...]
    graphs: Mapping[str, Graph]
    files: Mapping[str, int]
    quantization: str = ""

    @property
    def is_dynamic(self) -> bool:
        """Whether one graph takes steps of all shapes."""
        return any(graph.is_dynamic for graph in self.graphs.values())

    @property
    def blocks_per_row(self) -> int:
        """Columns M of the block tables."""
        return -(-self.max_length // self.block_size)

    def inputs(self, graph: Graph) -> dict[str, dict[str, Any]]:
        """Dtype and shape of what a graph takes, by name and in order; None is any size."""
        tokens = {"dtype": "int32", "shape": [graph.tokens]}
        taken = {
            "input_ids": tokens,
            "position_ids": tokens,
            "slot_mapping": tokens,
            "block_tables": {"dtype": "int32", "shape": [graph.rows, self.blocks_per_row]},
            "logits_indices": {"dtype": "int32", "shape": [graph.logits]},
        }
        if self.config.position == "rope":
            taken["cos_sin"] = {"dtype": "float32", "shape": [graph.tokens, self.config.head_dim]}
        return taken

    def write(self, folder: Path, made_by: Mapping[str, str]) -> None:
        """Write it into ``folder``.

        Args:
            made_by: versions of the programs that exported.
        """
        graphs = {
            name: {
                **asdict(graph),
                "inputs": self.inputs(graph),
                "output": {"dtype": "float32", "shape": [graph.logits, self.config.vocab_size]},
            }
            for name, graph in self.graphs.items()
        }
        values = {
            "version": VERSION,
            "made_by": dict(made_by),
            **{name: getattr(self, name) for name in SIZES},
            "stop_ids": list(self.stop_ids),
            "quantization": self.quantization,
            "state": ["key_cache.N and value_cache.N of layer N: float32 [blocks * block_size, K*D], in the graph"],
            "graphs": graphs,
            "files": dict(self.files),
            "config": asdict(self.config),
        }
        write_text(folder / EXPORTED, json.dumps(values, indent=2) + "\n")


def read_exported_manifest(folder: Path) -> ExportedManifest:
    """The manifest of a folder, whose files are all there.

    Raises:
        UserError: it is damaged or of another version, or a file is missing or has another size.
    """
    file = folder / EXPORTED
    values = read_json_object(file)
    if values.get("version") != VERSION:
        raise UserError(f"version: expected {VERSION}, found {values.get('version')!r:.30}", file)
    _check_keys(values, KEYS, "", file)
    try:
        config = config_from_dict(_object(values, "config", file))
    except ValueError as error:
        raise UserError(f"config: {error}", file) from None
    described = _object(values, "graphs", file)
    graphs = {name: _graph(described, name, file) for name in described}
    if not any(set(graphs) == set(names) for names in GRAPHS):
        expected = " or ".join(", ".join(names) for names in GRAPHS)
        raise UserError(f"graphs: found {', '.join(graphs) or 'none'}, expected {expected}", file)
    stop_ids = values.get("stop_ids")
    if not isinstance(stop_ids, list) or not all(type(item) is int and item >= 0 for item in stop_ids):
        raise UserError(f"stop_ids: expected a list of token ids, found {json_kind(stop_ids)}", file)
    named = _object(values, "files", file)
    sizes = {_file_name(name, "files", file): _count(named, name, file, "files.") for name in named}
    for graph in graphs.values():
        if graph.file not in sizes:
            raise UserError(f"files: {graph.file} is not listed", file)
    for name, nbytes in sizes.items():
        _check_size(folder / name, nbytes)
    counts = {name: _count(values, name, file) for name in SIZES}
    quantization = values.get("quantization", "")  # older files have none
    if not isinstance(quantization, str):
        raise UserError(f"quantization: expected a text, found {json_kind(quantization)}", file)
    return ExportedManifest(
        config, **counts, stop_ids=tuple(stop_ids), graphs=graphs, files=sizes, quantization=quantization
    )


def _graph(described: Mapping[str, Any], name: str, file: Path) -> Graph:
    values, before = _object(described, name, file), f"graphs.{name}."
    _check_keys(values, GRAPH_KEYS, before, file)
    found = Graph(_file_name(values.get("file"), f"{before}file", file))
    keys = ("tokens", "rows", "logits")
    if all(values.get(key, 0) is None for key in keys):
        return found
    tokens, rows, logits = (_count(values, key, file, before) for key in keys)
    return Graph(found.file, tokens, rows, logits)


def _check_keys(values: Mapping[str, Any], known: tuple[str, ...], before: str, file: Path) -> None:
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise UserError(f"{before}{key}: unknown key{f'; the nearest is {close[0]}' if close else ''}", file)


def _check_size(path: Path, nbytes: int) -> None:
    if not path.is_file():
        raise UserError(f"is missing; {EXPORTED} names it", path)
    if path.stat().st_size != nbytes:
        raise UserError(f"is damaged: {path.stat().st_size} bytes instead of {nbytes}", path)


def _object(values: Mapping[str, Any], key: str, file: Path) -> dict[str, Any]:
    found = values.get(key)
    if not isinstance(found, dict):
        raise UserError(f"{key}: expected an object, found {json_kind(found)}", file)
    return found


def _count(values: Mapping[str, Any], key: str, file: Path, before: str = "") -> int:
    found = values.get(key)
    if type(found) is not int or not 1 <= found < 1 << 62:
        raise UserError(f"{before}{key}: expected a whole number above 0, found {found!r:.30}", file)
    return found


def _file_name(name: Any, key: str, file: Path) -> str:
    """A path that stays in the folder."""
    if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{key}: expected the name of a file in this folder, found {name!r:.60}", file)
    return name
