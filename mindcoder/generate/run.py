"""Prompts from text or files, answers to the terminal or a JSONL file."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mindcoder.checkpoint.end_tokens import stop_ids
from mindcoder.checkpoint.load import fitting_weights, load_weights
from mindcoder.config.schema import RunConfig
from mindcoder.data.conversation import Message
from mindcoder.data.own_template import own_prompt
from mindcoder.data.prompt import OWN, PLAIN, build_prompt
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.files import parse_json, read_text, write_text
from mindcoder.generate.engine import BLOCK_SIZE, Completion, Engine
from mindcoder.generate.job import PredictRequest
from mindcoder.generate.kv_cache import choose_cache
from mindcoder.generate.model import answer_ends, generation_network, open_adapters
from mindcoder.generate.replicas import collect_answers, forget_answers, share_answers
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.generate.text import TextStream
from mindcoder.parallel.cluster import build_part, meet_cluster
from mindcoder.progress import tqdm
from mindcoder.tokenizer import CodeTokenizer
from mindcoder.tokenizer.special_tokens import FILL_HERE

log = logging.getLogger(__name__)
PROMPTS_LIMIT = 1 << 30  # bytes of a file of prompts


@dataclass(frozen=True)
class Prompt:
    """One request: the text the model sees (and, to fill a gap, what follows it), and the fields it was made from.

    Attributes:
        is_rendered: whether a chat template wrote the text, the beginning-of-text token included.
    """

    text: str
    source: dict[str, object]
    suffix: str | None = None
    is_rendered: bool = False

    @property
    def adapter(self) -> str | None:
        """The adapter that it asks for."""
        name = self.source.get("adapter")
        return None if name is None else str(name)

    def encode(self, tokenizer: CodeTokenizer) -> list[int]:
        """Token ids of the prompt."""
        if self.is_rendered:
            return tokenizer.encode_rendered(self.text)
        return tokenizer.encode(self.text) if self.suffix is None else tokenizer.encode_infill(self.text, self.suffix)


def read_prompts(data: str, template: str, tokenizer: CodeTokenizer | None = None) -> tuple[list[Prompt], bool]:
    """Prompts of ``data``, and whether it names a file.

    Files are JSON or JSONL of objects with ``instruction`` (and ``input``), ``prompt``, or ``prefix`` and ``suffix``
    of a gap to fill; or plain text with one prompt a line. A text with ``<FILL_ME>`` in it is a gap to fill as well.

    Args:
        tokenizer: with the model's own chat template, if that is the template.

    Raises:
        UserError: the file is empty or not a regular file, a line is not a prompt, or the template refuses it.
    """
    path = Path(data)
    if not os.path.lexists(path):  # whatever is there is read, or refused by `read_text`
        if path.suffix in (".json", ".jsonl", ".txt") and "\n" not in data and " " not in data:
            raise UserError("no such file of prompts", data)
        return [_prompt({"instruction": data}, template, data, 1, tokenizer)], False
    prompts = [_prompt(item, template, data, line, tokenizer) for line, item in _read_items(path)]
    if not prompts:
        raise UserError("holds no prompt", path)
    return prompts, True


def _read_items(path: Path) -> Iterator[tuple[int, object]]:
    text = read_text(path, PROMPTS_LIMIT)
    if path.suffix not in (".json", ".jsonl"):
        yield from ((number, {"instruction": line}) for number, line in enumerate(text.splitlines(), 1) if line.strip())
        return
    if text.lstrip().startswith("["):
        yield from ((1, item) for item in parse_json(text, path, non_finite=True))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, parse_json(line, path, number, non_finite=True)


def _prompt(item: object, template: str, file: str, line: int, tokenizer: CodeTokenizer | None) -> Prompt:
    if isinstance(item, str):
        item = {"instruction": item}
    if not isinstance(item, dict):
        raise UserError("expected an object with instruction or prompt", file, line)
    if isinstance(item.get("prefix"), str) and isinstance(item.get("suffix"), str):
        return Prompt(item["prefix"], item, item["suffix"])
    instruction = item.get("instruction", item.get("prompt"))
    if not isinstance(instruction, str):
        raise UserError("expected an object with instruction, prompt, or prefix and suffix", file, line)
    if FILL_HERE in instruction:
        before, after = instruction.split(FILL_HERE, 1)
        return Prompt(before, item, after)
    if template == OWN and tokenizer is not None:
        question = Message("user", instruction, str(item.get("input") or ""))
        return Prompt(own_prompt((question,), tokenizer), item, is_rendered=True)
    return Prompt(build_prompt(instruction, item.get("input") or "", template), item)


def sampling_options(config: RunConfig) -> SamplingOptions:
    """``model.model_config``'s generation keys."""
    model = config.model.settings
    return SamplingOptions(
        model.do_sample, model.temperature, model.top_k, model.top_p, model.repetition_penalty, config.seed
    )


def predict(config: RunConfig, request: PredictRequest, tokenizer: CodeTokenizer, out: TextIO) -> None:
    """Answer ``request``: streamed to ``out`` for a prompt, JSONL for a file.

    Raises:
        UserError: prompts, checkpoint or lengths do not fit.
    """
    template = PLAIN if request.raw else config.processor.prompt_template
    prompts, from_file = read_prompts(request.data, template, tokenizer)
    encoded = [prompt.encode(tokenizer) for prompt in prompts]
    model = config.model.settings
    max_length = request.max_length or model.max_decode_length or model.seq_length
    for index, ids in enumerate(encoded):
        if len(ids) >= max_length:
            raise UserError(
                f"prompt {index} has {len(ids)} tokens, which leaves no room for an answer within "
                f"{max_length}; raise --predict_length"
                + (f" (up to {model.max_positions})" if model.max_positions else "")
            )
    if not config.load_checkpoint:
        raise UserError("predict needs weights: --load_checkpoint")
    network = generation_network(config_from_section(model))
    weights = fitting_weights(config.load_checkpoint, network)  # before anything is built: another model is seen now
    adapters = open_adapters(request.adapters, network)
    for index, prompt in enumerate(prompts):
        if prompt.adapter is not None and prompt.adapter not in adapters:
            known = ", ".join(adapters) or "none"
            raise UserError(f"prompt {index} asks for adapter {prompt.adapter!r}; available: {known} (--adapter)")
    exchange = Path(config.output_dir)
    forget_answers(exchange)
    comm = meet_cluster(config)
    mine = range(comm.mesh.data_index, len(prompts), comm.mesh.data)
    decoder = build_part(comm, network, empty=True, trains=False)
    log.info("weights from %s", load_weights(decoder, weights).describe())
    choose_cache(decoder, request.kv, weights.weights)
    log.info("compiling the prefill and decode graphs with the first prompt")
    batch = max(min(request.batch, len(mine)), 1)
    several = model.eos_ids if len(model.eos_ids) > 1 else []  # a single one is the family's default or the tokenizer's
    engine = Engine(
        decoder,
        batch,
        max_length,
        stop_ids(weights.weights, tokenizer, not config.processor.tokenizer.is_given).union(
            several, answer_ends(template, tokenizer)
        ),
        min(tokenizer.vocab_size, model.vocab_size),
        max(len(ids) for ids in encoded),
        comm,
        model.num_blocks,
        model.block_size or BLOCK_SIZE,
        adapters=adapters,
    )
    options = sampling_options(config)
    if from_file:
        lines = _answer_file(engine, prompts, encoded, mine, options, model.max_new_tokens, tokenizer)
        if not share_answers(exchange, comm.mesh, lines):
            return
        text = "\n".join(collect_answers(exchange, comm.mesh, lines)) + "\n"
        if request.output is None:
            out.write(text)
        else:
            write_text(request.output, text)
            log.info("answers in %s", request.output)
    else:
        _stream_answer(engine, encoded[0], options, model.max_new_tokens, tokenizer, out)


def _stream_answer(
    engine: Engine,
    ids: list[int],
    options: SamplingOptions,
    max_new_tokens: int | None,
    tokenizer: CodeTokenizer,
    out: TextIO,
) -> None:
    """Text as it comes, then a line with the speed on the log."""
    text = TextStream(tokenizer)
    completions: list[Completion] = []
    for completions, fresh in engine.stream([ids], options, max_new_tokens):
        if fresh[0] is not None:
            out.write(text.push(fresh[0]))
            out.flush()
    out.write(text.finish() + "\n")
    out.flush()
    timing = engine.timing
    log.info(
        "%d tokens (%s), first token %.2f s, then %.1f tokens/s",
        len(completions[0].tokens),
        completions[0].finish_reason,
        timing.first_token,
        timing.tokens_per_second,
    )


def _answer_file(
    engine: Engine,
    prompts: list[Prompt],
    encoded: list[list[int]],
    mine: Sequence[int],
    options: SamplingOptions,
    max_new_tokens: int | None,
    tokenizer: CodeTokenizer,
) -> dict[int, str]:
    """One JSON object for each prompt of ``mine``: its fields, the answer, token counts and finish reason."""
    completions: list[Completion] = []
    progress = tqdm(total=len(mine), desc="predict", unit=" prompts", disable=None)
    asked, adapters = [encoded[index] for index in mine], [prompts[index].adapter for index in mine]
    for completions, _ in engine.stream(asked, options, max_new_tokens, mine, adapters):
        progress.update(sum(item.finish_reason is not None for item in completions) - progress.n)
    progress.close()
    lines = {}
    for index, item in zip(mine, completions):
        answer = {
            **prompts[index].source,
            "output": tokenizer.decode(item.tokens, skip_special_tokens=True),
            "prompt_tokens": item.prompt_tokens,
            "output_tokens": len(item.tokens),
            "finish_reason": item.finish_reason,
        }
        lines[index] = json.dumps(answer, ensure_ascii=False)
    tokens = sum(len(item.tokens) for item in completions)
    seconds = engine.timing.first_token + engine.timing.decoding
    log.info("%d prompts, %d tokens, %.1f tokens/s", len(mine), tokens, tokens / seconds if seconds else 0.0)
    return lines
