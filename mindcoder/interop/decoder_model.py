"""The decoder behind MindFormers' interface; common base of the registered classes of all families."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindformers import PreTrainedModel, PreTrainedTokenizerFast
from mindspore import Tensor, ops

from mindcoder.checkpoint.load import fitting_weights, load_weights
from mindcoder.errors import UserError
from mindcoder.families.from_section import config_from_section
from mindcoder.generate.engine import Engine
from mindcoder.interop.config import DecoderPretrainedConfig
from mindcoder.interop.generation import read_generation
from mindcoder.interop.shims import apply_cpu_shims
from mindcoder.models.decoder import Decoder
from mindcoder.models.loss import IGNORED_LABEL, LinearCrossEntropy
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.code_tokenizer import begin_with

apply_cpu_shims()


class DecoderForCausalLM(PreTrainedModel):
    """The decoder of ``mindcoder predict`` and ``finetune``, with its head.

    In training, calls return the mean loss, otherwise the logits. ``generate`` uses `mindcoder.generate.engine`, so its
    tokens are those of ``mindcoder predict``.
    """

    config_class = DecoderPretrainedConfig
    base_model_prefix = "decoder"

    def __init__(self, config: DecoderPretrainedConfig) -> None:
        super().__init__(config, auto_prefix=False)
        mode = ms.get_auto_parallel_context("parallel_mode")
        if mode in ("semi_auto_parallel", "auto_parallel"):
            raise ValueError(
                f"parallel_mode {mode} is not supported: scripts/pipeline_dist.sh runs pipeline parallelism"
            )
        self.transformer_config = config_from_section(config.section)
        location = config.section.checkpoint_name_or_path
        weights = fitting_weights(location, self.transformer_config) if location else None
        self.decoder = Decoder(self.transformer_config)
        self.loss = LinearCrossEntropy(scaled=True)
        self._engines: dict[tuple[int, int], Engine] = {}
        if weights is not None:
            load_weights(self.decoder, weights)

    def construct(
        self,
        input_ids: Tensor,
        labels: Tensor = None,
        position_ids: Tensor = None,
        document_ids: Tensor = None,
        attention_mask: Tensor = None,
    ) -> Tensor:
        """Loss in training, logits ``[B, S, V]`` otherwise.

        Args:
            input_ids: int32 ``[B, S]``.
            labels: int32 ``[B, S]``, aligned with ``input_ids`` and -100 at masked positions; the inputs themselves by
                default.
            position_ids, document_ids: int32 ``[B, S]`` of packed rows; one document per row by default.
            attention_mask: accepted for MindFormers' datasets; right padding needs none.
        """
        batch, length = input_ids.shape
        input_ids = ops.cast(input_ids, ms.int32)
        if position_ids is None:
            position_ids = ops.broadcast_to(
                ops.arange(0, length, 1, dtype=ms.int32).reshape((1, length)), (batch, length)
            )
        if document_ids is None:
            document_ids = ops.zeros_like(input_ids)
        hidden = self.decoder(input_ids, position_ids, document_ids, Tensor(0, ms.int32))
        if not self.training:
            return self.decoder.logits(hidden).reshape((batch, length, -1))
        targets = input_ids if labels is None else ops.cast(labels, ms.int32)
        last = ops.full((batch, 1), IGNORED_LABEL, dtype=ms.int32)
        shifted = ops.concat((targets[:, 1:], last), 1)
        return self.loss(hidden, self.decoder.head_weight(), shifted.reshape((-1,)))[0]

    def generate(
        self,
        input_ids: Any,
        generation_config: Any = None,
        logits_processor: Any = None,
        streamer: Any = None,
        seed: int | None = None,
        **arguments: Any,
    ) -> Any:
        """Complete a batch of prompts; arguments as MindFormers' ``GenerationMixin.generate`` (`read_generation`).

        Returns:
            A list of arrays, prompt and answer; or ``{"sequences": list}``.

        Raises:
            TypeError: an unknown argument.
            ValueError: a feature that is not implemented, such as beam search; or a prompt that leaves no room.
        """
        wanted = read_generation(
            self.config, generation_config, seed, logits_processor=logits_processor, streamer=streamer, **arguments
        )
        prompts = self._prompts(input_ids, wanted.pad)
        longest = max(map(len, prompts))
        limit = self.transformer_config.longest_text or self.config.seq_length
        length = longest + wanted.max_new_tokens if wanted.max_new_tokens else wanted.max_length
        length = min(length, limit)
        if longest >= length:
            raise ValueError(f"generate: the longest prompt has {longest} tokens, which leaves no room within {length}")
        engine = self._engine(len(prompts), length, wanted.eos, longest)
        completions = engine.generate(prompts, wanted.options, wanted.max_new_tokens)
        sequences = [
            np.array([*prompt, *item.tokens, *([] if item.stopped_by is None else [item.stopped_by])], np.int32)
            for prompt, item in zip(prompts, completions)
        ]
        return {"sequences": sequences} if wanted.as_dictionary else sequences

    def _prompts(self, input_ids: Any, pad_id: int | None) -> list[list[int]]:
        """Rows without trailing padding."""
        rows = input_ids.asnumpy() if isinstance(input_ids, Tensor) else input_ids
        rows = [list(map(int, row)) for row in (rows if np.ndim(rows[0]) else [rows])]
        for row in rows:
            while len(row) > 1 and row[-1] == pad_id:
                row.pop()
        return rows

    def _engine(self, batch: int, length: int, stop_ids: frozenset[int], longest: int) -> Engine:
        key = (batch, length)
        if key not in self._engines or self._engines[key].stop_ids != stop_ids:
            self._engines[key] = Engine(
                self.decoder, batch, length, stop_ids, self.transformer_config.vocab_size, longest
            )
        return self._engines[key]

    def load_pretrained(self, location: str) -> str:
        """Load weights from a MindCoder checkpoint or a Hugging Face folder."""
        return load_weights(self.decoder, location).describe()


class CodeTokenizerFast(PreTrainedTokenizerFast):
    """`mindcoder.tokenizer` for MindFormers; special tokens come from the files unless given as arguments.

    Args:
        vocab_file: tokenizer.json, tokenizer.model, vocab.json (with ``merge_file``), or a folder.
        merge_file: merges.txt.
        tokenizer_file: as ``vocab_file``, which it overrides.
        pad_token: padding.

    Raises:
        ValueError: a file is missing or corrupt.
    """

    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "right"

    def __init__(
        self,
        vocab_file: str | None = None,
        merge_file: str | None = None,
        tokenizer_file: str | None = None,
        pad_token: str | None = None,
        **settings: Any,
    ) -> None:
        merge_file = merge_file or settings.pop("merges_file", None)
        try:
            loaded = load_tokenizer(vocab_file, merge_file, tokenizer_file, pad_token)
        except UserError as error:
            raise ValueError(str(error)) from None
        special = loaded.special
        backend = loaded.backend
        if loaded.bos_id is not None:
            backend.post_processor = begin_with(special.bos or "", loaded.bos_id)
        unknown = "<unk>" if backend.token_to_id("<unk>") is not None else special.eos
        defaults = {
            "unk_token": unknown,
            "bos_token": special.bos or special.eos,
            "eos_token": special.eos,
            "pad_token": backend.id_to_token(loaded.pad_id),
            "clean_up_tokenization_spaces": False,
        }
        settings.pop("tokenizer_object", None)
        super().__init__(tokenizer_object=backend, **{**defaults, **settings})
