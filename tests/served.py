"""A server process over a small random model, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

VOCABULARY = 600


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory) -> Path:
    """A random Llama with a tokenizer of its own, saved by transformers."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("served") / "tiny-llama"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(Path(__file__).read_text().splitlines() * 3, trainer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


class Running:
    """A started server."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        key = environment.get("MINDCODER_API_KEY")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        command = [sys.executable, "-m", "mindcoder.cli.main", "serve", str(folder), "--port", str(self.port), *flags]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise RuntimeError(f"the server did not start: {self.process.communicate(timeout=5)[0]}")

    def metric(self, name: str) -> float:
        found = re.search(
            rf"^{re.escape(name)} (\S+)$", httpx.get(f"{self.url}/metrics", headers=self.headers).text, re.M
        )
        return float(found[1]) if found else 0.0

    def wait_until_idle(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.metric("mindcoder_open_requests"):
            time.sleep(0.1)
        assert self.metric("mindcoder_open_requests") == 0
        assert self.metric("mindcoder_running") == self.metric("mindcoder_waiting") == 0
        assert self.metric("mindcoder_free_blocks") == self.metric("mindcoder_cache_blocks")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def server(served_folder):
    """One for all files that ask it no more than requests."""
    running = Running(served_folder, "--max_batch_size", "8", "--blocks", "64")
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="session")
def offline(served_folder):
    """``offline(prompt ids, tokens) -> ids``: transformers' greedy answer."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(served_folder)

    def answer(prompt: list[int], tokens: int) -> list[int]:
        ids = torch.tensor([prompt])
        done = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
        answer = done[0, len(prompt) :].tolist()
        return answer[: answer.index(1)] if 1 in answer else answer

    return answer


@pytest.fixture(scope="session")
def served_tokenizer(served_folder):
    from mindcoder.tokenizer import load_tokenizer

    return load_tokenizer(served_folder / "tokenizer.json")
