"""64 clients at once, some of which vanish: nothing leaks, and every finished answer is the offline one."""

from __future__ import annotations

import asyncio
import time

import httpx
import numpy as np

CLIENTS, TOKENS = 64, 24


def test_64_clients_of_mixed_lengths(server, offline, served_tokenizer, rng, capsys):
    prompts = [rng.integers(2, 500, rng.integers(2, 90)).tolist() for _ in range(CLIENTS)]
    limits = rng.integers(2, TOKENS + 1, CLIENTS).tolist()
    vanishing = set(rng.choice(CLIENTS, CLIENTS // 4, replace=False).tolist())
    first, between = [], []

    async def client(http: httpx.AsyncClient, index: int) -> str | None:
        body = {"prompt": prompts[index], "max_tokens": limits[index], "temperature": 0, "stream": True}
        began = seen = time.perf_counter()
        text, pieces = "", 0
        async with http.stream("POST", f"{server.url}/v1/completions", json=body) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                now = time.perf_counter()
                (between if pieces else first).append(now - (seen if pieces else began))
                seen, pieces = now, pieces + 1
                text += __import__("json").loads(line[6:])["choices"][0]["text"]
                if index in vanishing and pieces >= 2:
                    return None
        return text

    async def everybody():
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(timeout=120, limits=limits) as http:
            return await asyncio.gather(*(client(http, index) for index in range(CLIENTS)))

    texts = asyncio.run(everybody())
    finished = [index for index, text in enumerate(texts) if text is not None]
    assert len(finished) >= CLIENTS - len(vanishing)
    for index in finished:
        expected = offline(prompts[index], limits[index])
        assert texts[index] == served_tokenizer.decode(expected, skip_special_tokens=True), index
    server.wait_until_idle()
    with capsys.disabled():
        figures = [f"{name} p50 {np.percentile(values, 50) * 1e3:.0f} p95 {np.percentile(values, 95) * 1e3:.0f} ms"
                   for name, values in (("first token", first), ("between tokens", between))]  # fmt: skip
        print(f"\n{CLIENTS} clients: {', '.join(figures)}")
