"""Models that answer, and what two of them say of the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mindcoder.api.arguments import (
    DEVICES,
    WEIGHT_DTYPES,
    adapter_pairs,
    check_choice,
    check_index,
    check_positive,
    optional_name,
    optional_path,
    path_text,
)
from mindcoder.errors import user_errors

if TYPE_CHECKING:
    from mindcoder.compare.comparison import Comparison
    from mindcoder.generate.loaded_model import Model


@user_errors()
def load(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    adapters: Mapping[str, str | Path] | Sequence[tuple[str, str | Path]] = (),
    template: str | None = None,
    dtype: str = "float32",
    max_length: int | None = None,
    batch: int = 1,
    blocks: int | None = None,
    kv: str = "float",
    device: str = "auto",
    device_id: int = 0,
    threads: int | None = None,
) -> Model:
    """Load a model for generation. The verbs chat, complete, serve, bench and eval-code begin here.

    Args:
        path: Hugging Face folder, MindCoder folder, run (its ``output_dir``), checkpoint or ``.gguf``; or what `export`
            has written, which sets ``dtype``, the largest ``max_length`` and ``blocks``, and without ``dynamic``
            ``batch``.
        tokenizer: vocabulary file or folder, if ``path`` has none.
        adapters: name -> LoRA run or PEFT folder on this model, or pairs of them. A call chooses one with ``adapter=``.
        template: prompt template of `Model.chat`; by default the one that the model was trained with, else its
            own ``chat_template``, else the family's.
        dtype: of the weights in memory: float32, float16 or bfloat16. CPU computes in float32, and keeps bfloat16 so.
        max_length: prompt and answer together, in tokens; by default the model's context, 4096 at most.
        batch: answers computed together; more wait for their turn. Each has room for ``max_length`` tokens.
        blocks: KV cache blocks of 16 tokens; by default all that ``batch`` needs.
        kv: keys and values in float; or in int8, by the scales that lie with the weights (`quantize`), else with a
            scale for each head of a token.
        device: auto, CPU or Ascend; auto takes Ascend if there is one.
        device_id: Ascend card.
        threads: CPU threads of the process; by default all cores.

    Returns:
        A `mindcoder.Model` with ``generate``, ``chat`` and ``logits``. Each one has weights and a cache of its own.

    Raises:
        UserError: nothing there, no tokenizer, an adapter of another model, a damaged file, or a value out of bounds.
    """
    from mindcoder.generate.kv_kinds import KV_CACHES

    check_choice("device", device, DEVICES)
    check_choice("dtype", dtype, WEIGHT_DTYPES)
    check_choice("kv", kv, KV_CACHES)
    for name, count in (("max_length", max_length), ("batch", batch), ("blocks", blocks), ("threads", threads)):
        if count is not None:
            check_positive(name, count)
    check_index("device_id", device_id)
    pairs = adapter_pairs(adapters)
    place, vocabulary, template = (
        path_text("path", path),
        optional_path("tokenizer", tokenizer),
        optional_name("template", template),
    )
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK:
        setup_device(device, device_id, threads=threads)
    from mindcoder.generate.model import ModelRequest, open_model

    request = ModelRequest(
        place,
        vocabulary,
        template,
        dtype,
        max_length,
        batch,
        blocks,
        pairs,
        kv,
    )
    with GRAPH_LOCK, interruptible():
        return open_model(request)


@user_errors()
def verify(
    a: str | Path,
    b: str | Path,
    data: str | Path,
    *,
    base: str | Path | None = None,
    tokenizer: str | Path | None = None,
    template: str | None = None,
    tokens: int | None = None,
    max_length: int | None = None,
    dtype: str = "float32",
    device: str = "auto",
    device_id: int = 0,
    threads: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare what two models say of every next token of some texts; the verb verify.

    Both are in memory, and one chunk of logits of each. An adapter is computed beside its base model, not merged.

    Args:
        a, b: all that `load` reads; also a YAML file whose ``load_checkpoint`` names the weights. A ``.ckpt`` without
            ``config.json`` takes its architecture from the other model.
        data: JSON, JSONL or plain text: a file, a glob or a registered name.
        base: base model of an adapter, if it has moved.
        tokenizer: vocabulary file or folder of both models; by default each has its own, and they must give the texts
            the same ids.
        template: prompt template of instructions; by default the one that ``a`` was trained with, else its own, else
            its family's.
        tokens: compare this many tokens at most.
        max_length: longest text, in tokens; documents are divided, other records are cut. By default 2048, or the
            models' positions.
        dtype: of the weights in memory: float32, float16 or bfloat16. CPU computes in float32, and keeps bfloat16 so.
        device, device_id, threads: as of `load`.
        progress: show a bar where standard error is a terminal.

    Returns:
        A `mindcoder.Comparison` with ``kl``, ``max_difference``, ``agreement``, ``perplexity_a``, ``first`` and more;
        ``print`` shows the table, ``summary()`` is one line.

    Raises:
        UserError: a model or the data are not there, the tokenizers differ, or a logit is not a number.
    """
    check_choice("device", device, DEVICES)
    check_choice("dtype", dtype, WEIGHT_DTYPES)
    for name, count in (("tokens", tokens), ("max_length", max_length), ("threads", threads)):
        if count is not None:
            check_positive(name, count)
    check_index("device_id", device_id)
    from mindcoder.backend.device import interruptible, setup_device
    from mindcoder.graph_lock import GRAPH_LOCK

    with GRAPH_LOCK, interruptible():
        setup_device(device, device_id, threads=threads)
        from mindcoder.compare.run import CompareRequest, compare

        return compare(
            CompareRequest(
                path_text("a", a),
                path_text("b", b),
                path_text("data", data),
                optional_path("base", base),
                optional_path("tokenizer", tokenizer),
                optional_name("template", template),
                tokens,
                max_length,
                dtype,
                progress,
            )
        )
