"""The verb predict: from a validated configuration to answers, MindSpore imported when all is checked."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from mindcoder.config.given import Configuration
from mindcoder.generate.kv_kinds import FLOAT
from mindcoder.train.job import checked, started


@dataclass(frozen=True)
class PredictRequest:
    """What ``predict`` is asked for.

    Attributes:
        data: a prompt, or a file of prompts.
        raw: take prompts as they are, without the instruction template.
        output: JSONL file for the answers to a file of prompts.
        max_length: prompt and answer together, in tokens; None takes the model's.
        batch: sequences generated together.
        adapters: names and paths of adapters; a prompt's field ``adapter`` chooses one, others take the base model.
        kv: how keys and values are kept, of `KV_CACHES`.
    """

    data: str
    raw: bool = False
    output: Path | None = None
    max_length: int | None = None
    batch: int = 1
    adapters: tuple[tuple[str, str], ...] = ()
    kv: str = FLOAT


def run_prediction(
    configuration: Configuration, request: PredictRequest, out: TextIO, shows_effects: bool = False
) -> None:
    """Answer ``request`` with ``load_checkpoint``: streamed to ``out`` for a prompt, JSONL for a file.

    Args:
        shows_effects: whether keys without effect are logged one by one.

    Raises:
        UserError: prompts, checkpoint, tokenizer or lengths do not fit.
    """
    job = started(checked("predict", configuration), shows_effects, raw=request.raw)
    assert job.tokenizer is not None
    from mindcoder.generate.run import predict

    with job.interruptible():
        if job.rank == 0:
            predict(job.config, request, job.tokenizer, out)
            return
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # every rank computes the answers, rank 0 prints them
            predict(job.config, replace(request, output=None), job.tokenizer, nowhere)
