"""What streams and ``usage`` say about themselves: counts of the right moment, lines that end where they end."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from mindcoder.generate.model import ModelRequest, open_model
from mindcoder.serve.events import _line
from mindcoder.serve.metrics import Metrics
from mindcoder.serve.protocol import CompletionRequest
from mindcoder.serve.responses import CompletionJob
from mindcoder.serve.worker import EngineWorker


@pytest.mark.parametrize("n", [1, 3])
def test_a_chunk_has_the_counts_of_its_own_moment(served_folder, n):
    model = open_model(ModelRequest(str(served_folder)))
    worker = EngineWorker(model.engine, 8)
    body = {"prompt": "def f", "max_tokens": 12, "n": n, "seed": 1, "logprobs": 0, "stream": True}
    body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    job = CompletionJob(CompletionRequest.model_validate(body), model, worker, Metrics(worker))

    async def read_late() -> list[dict]:
        chunks = job.stream()
        found = [await anext(chunks)]
        while model.engine.busy:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)  # all that has been computed is in the queue now
        return [*found, *[chunk async for chunk in chunks]]

    try:
        with worker.slots(job.count):
            job.prepare()
            *chunks, last = asyncio.run(read_late())
    finally:
        worker.close()
    read = 0
    for chunk in chunks:
        read += sum(len(choice["logprobs"]["tokens"]) for choice in chunk["choices"])
        assert chunk["usage"]["completion_tokens"] == read
        assert chunk["usage"]["total_tokens"] == read + chunk["usage"]["prompt_tokens"]
    assert read > 6 and last["usage"]["completion_tokens"] == read


@pytest.mark.parametrize("stream", [False, True])
def test_no_more_of_a_prompt_is_cached_than_it_has(server, stream):
    body = {"prompt": ["def f(x): return x + 1\n" * 8, "class A:\n" * 20], "n": 4, "max_tokens": 2, "stream": stream}
    body |= {"stream_options": {"include_usage": True}} if stream else {}
    for _ in range(2):
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).text
        used = json.loads(answer.split("data: ")[-2] if stream else answer)["usage"]
    cached = used["prompt_tokens_details"]["cached_tokens"]
    assert used["prompt_tokens"] - 2 * 17 <= cached < used["prompt_tokens"]  # all but the last block of each


def test_a_line_of_a_stream_is_one_line():
    text = "a\u2028b\u2029c\x85d\x0be\x1cf\r\n"
    first, second, *rest = _line({"text": text}).splitlines()
    assert json.loads(first.removeprefix("data: ")) == {"text": text} and second == "" and rest == []
