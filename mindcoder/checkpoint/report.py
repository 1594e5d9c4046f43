"""Summary of a weights folder or file, and the memory needed to run and to train it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mindcoder.checkpoint.quantized.tensors import DequantizedTensor
from mindcoder.checkpoint.stored_tensor import FLOAT_DTYPES, StoredTensor
from mindcoder.checkpoint.stored_weights import Weights
from mindcoder.errors import UserError
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.planning.memory import BYTES_PER_PARAMETER


@dataclass(frozen=True)
class Report:
    """The output of ``mindcoder inspect``; all sizes in bytes."""

    kind: str
    place: str
    model_type: str
    config: TransformerConfig
    parameters: int
    dtypes: dict[str, int]
    files: dict[str, int]
    tokenizer_vocab_size: int | None
    layer_shapes: dict[str, tuple[int, ...]]
    other_shapes: dict[str, tuple[int, ...]]
    run_bytes: dict[str, int]
    cache_bytes: int
    train_bytes: int
    quantization: str = ""
    has_kv_scales: bool = False
    left_out: str = ""
    not_told: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report as text."""
        config = self.config
        vocabulary = str(config.vocab_size)
        if config.token_rows != config.vocab_size:
            vocabulary += f", padded to {config.token_rows}"
        if self.tokenizer_vocab_size is not None:
            vocabulary += f", tokenizer {self.tokenizer_vocab_size}"
        heads = f"{config.num_heads} heads of {config.head_dim}, {config.num_kv_heads} for keys"
        runs = ", ".join(f"{dtype} {_gigabytes(count)}" for dtype, count in self.run_bytes.items())
        files = ", ".join(f"{name} {_gigabytes(size)}" for name, size in list(self.files.items())[:4])
        return [
            f"{self.place}: {self.kind}, {self.model_type}",
            f"parameters      {self.parameters:,} ({_short(self.parameters)})",
            f"network         {config.num_layers} layers, hidden {config.hidden_size}, "
            f"inner {config.intermediate_size}, {heads}",
            f"                {config.norm}, {config.activation}, {'tied' if config.tied_head else 'own'} head",
            f"positions       {_positions(config)}",
            f"vocabulary      {vocabulary}",
            f"stored as       {', '.join(f'{dtype} {count} tensors' for dtype, count in self.dtypes.items())}",
            *([f"quantized       {self.quantization}; the rest as above"] if self.quantization else []),
            *(["KV cache        has scales for --kv int8"] if self.has_kv_scales else []),
            f"files           {len(self.files)}: {files}" + (" …" if len(self.files) > 4 else ""),
            f"memory to run   {runs}; keys and values {self.cache_bytes / 1e6:.3g} MB per 1000 tokens in float16",
            f"memory to train {_gigabytes(self.train_bytes)} in float32 with AdamW; activations come on top",
            *([f"left out        {self.left_out}"] if self.left_out else []),
            *([f"not told        {', '.join(self.not_told)}; config.json beside it would"] if self.not_told else []),
            "one layer:",
            *(f"  {name:<28} {list(shape)}" for name, shape in self.layer_shapes.items()),
            "elsewhere:",
            *(f"  {name:<28} {list(shape)}" for name, shape in self.other_shapes.items()),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The report as data for JSON."""
        return asdict(self)


def _positions(config: TransformerConfig) -> str:
    if config.position == "learned":
        return f"{config.max_position_embeddings} learned"
    text = f"rotary, theta {config.rope_theta:g}, context {config.max_position_embeddings}"
    if config.rope_scaling is not None:
        text += f", {config.rope_scaling.kind} scaling x {config.rope_scaling.factor:g}"
    return text + (f", window {config.sliding_window}" if config.sliding_window else "")


def _short(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 10**8 else f"{count / 1e6:.2f} M"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**7 else f"{count / 1e6:.2f} MB"


def report(weights: Weights) -> Report:
    """Describe weights without reading them.

    Raises:
        UserError: they do not match their own description.
    """
    config = weights.config
    parameters = weights.parameters()
    files = {tensor.file.name: tensor.file.stat().st_size for tensor in weights.tensors.values()}
    count, first = config.num_parameters(), "layers.0."
    return Report(
        kind=weights.kind,
        place=str(weights.path),
        model_type=config.model_type,
        config=config,
        parameters=count,
        dtypes=_count_dtypes(weights.tensors),
        files=dict(sorted(files.items())),
        tokenizer_vocab_size=tokenizer_size(weights.companions),
        layer_shapes={
            name.removeprefix(first): plan.shape for name, plan in parameters.items() if name.startswith(first)
        },
        other_shapes={name: plan.shape for name, plan in parameters.items() if not re.match(r"layers\.\d+\.", name)},
        run_bytes={"float32": 4 * count, "float16": 2 * count, **_quantized_bytes(weights)},
        cache_bytes=1000 * 2 * 2 * config.num_layers * config.kv_size,
        train_bytes=BYTES_PER_PARAMETER * count,
        quantization=weights.quantization,
        has_kv_scales=weights.has_kv_scales,
        left_out=weights.skipped_entries,
        not_told=tuple(sorted(weights.required_fields)),
    )


def _count_dtypes(tensors: Mapping[str, StoredTensor]) -> dict[str, int]:
    floats = [tensor for tensor in tensors.values() if not isinstance(tensor, DequantizedTensor)]
    counts = Counter(tensor.stored_as for tensor in floats if tensor.dtype in FLOAT_DTYPES)
    return dict(counts.most_common())


def _quantized_bytes(weights: Weights) -> dict[str, int]:
    """Memory of the parameters with linear layers in integers and the rest in float32."""
    if not weights.quantization:
        return {}
    plans = weights.stored_parameters(weights.config).values()
    return {weights.quantization: sum(plan.with_dtype("F32").nbytes for plan in plans)}


def tokenizer_size(companions: Mapping[str, Path]) -> int | None:
    """Tokens of the tokenizer among a model's other files; None if there is none, or a damaged one."""
    from mindcoder.tokenizer.load import FILES, load_tokenizer

    file = next((companions[name] for name in FILES if name in companions), None)
    if file is None:
        return None
    try:
        tokenizer = load_tokenizer(file)
    except UserError:
        return None  # inspect describes weights; whoever needs the tokenizer reports what is wrong with it
    return tokenizer.vocab_size
