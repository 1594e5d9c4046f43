"""``stream_options.continuous_usage_stats`` for a client that reads late."""

from __future__ import annotations

import asyncio

import pytest

from mindcoder.generate.model import ModelRequest, open_model
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
        with worker.places(job.count):
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
