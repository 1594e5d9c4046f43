"""llama.cpp as an engine of the benchmarks: one prompt at a time, greedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

Tokens = list[list[int]]


def greedy_answers(file: Path, context: int, threads: int) -> Callable[[Tokens, int], Tokens]:
    """Load a GGUF file for ``context`` tokens; one prompt and how many tokens -> the tokens."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(file), n_ctx=context, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    vocabulary = model.n_vocab()

    def answer(given: Tokens, count: int) -> Tokens:
        (row,) = given
        model.reset()
        model.eval(row)
        tokens: list[int] = []
        while True:
            logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
            tokens.append(int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax()))
            if len(tokens) == count:
                return [tokens]
            model.eval(tokens[-1:])

    return answer
