"""`mindcoder serve` on the emulator: concurrent requests, a stream, a refused request, against transformers."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from ascend_models import MOVEMENTS
from served import Running

from softcann.environment import emulator_environment

pytestmark = pytest.mark.long

TOKENS, DEADLINE = 12, 300.0  # an operator is compiled when a request first needs it


@pytest.fixture(scope="module")
def ascend(served_folder, tmp_path_factory):
    log = tmp_path_factory.mktemp("softcann") / "log.jsonl"
    before = dict(os.environ)
    flags = ("--device_target", "Ascend", "--max_batch_size", "4", "--blocks", "64", "--max_length", "128")
    running = Running(served_folder, *flags, **emulator_environment(log))
    assert dict(os.environ) == before, "the emulator stays in the server's process"
    yield running, log
    running.process.kill()
    running.process.wait()


def test_clients_get_the_tokens_of_transformers(ascend, offline, served_tokenizer):
    """Four at a time, of different lengths; one of them streamed, one of them refused."""
    running, log = ascend

    def decoded(ids: list[int]) -> str:
        return served_tokenizer.decode(ids, skip_special_tokens=True)

    prompts = ["def add(a, b):", "import os\n", "x", "class Server:\n    def stop(self) -> int:\n        return"]
    bodies = [{"prompt": prompt, "max_tokens": TOKENS, "temperature": 0} for prompt in prompts]

    def complete(body: dict) -> str:
        answer = httpx.post(f"{running.url}/v1/completions", json=body, timeout=DEADLINE)
        return answer.json()["choices"][0]["text"]

    def stream(body: dict) -> str:
        with httpx.stream(
            "POST", f"{running.url}/v1/completions", json=body | {"stream": True}, timeout=DEADLINE
        ) as got:
            events = [line.removeprefix("data: ") for line in got.iter_lines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        return "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])

    with ThreadPoolExecutor(8) as pool:
        whole = [pool.submit(complete, body) for body in bodies]
        streamed = pool.submit(stream, bodies[0])
        bad = {**bodies[0], "temperature": 1e-310}
        refused = pool.submit(httpx.post, f"{running.url}/v1/completions", json=bad, timeout=DEADLINE)
    expected = [decoded(offline(served_tokenizer.encode(prompt), TOKENS)) for prompt in prompts]
    assert [answer.result() for answer in whole] == expected
    assert streamed.result() == expected[0]
    assert refused.result().status_code == 400
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    called = Counter(event["name"] for event in events if event["event"] == "aclnn")
    assert called["aclnnRmsNorm"] and called["aclnnInplaceIndexCopy"]
    assert {event["name"] for event in events if event["event"] == "aclop"} <= MOVEMENTS
    running.wait_until_idle()


def test_it_ends_when_asked(ascend):
    assert ascend[0].stop() == 0
