"""The decoder behind MindFormers' interface: what the registered classes of all families share."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from mindformers.core.parallel_config import default_parallel_config
from mindspore import Tensor, ops

from mindcoder.checkpoint.load import fitting_weights, load_weights
from mindcoder.config.model_section import AnyModelSection
from mindcoder.errors import UserError
from mindcoder.generate.engine import Engine
from mindcoder.generate.sampler import SamplingOptions
from mindcoder.interop.shims import apply_cpu_shims
from mindcoder.models.decoder import Decoder
from mindcoder.models.from_section import config_from_section
from mindcoder.models.loss import IGNORED_LABEL, LinearCrossEntropy
from mindcoder.tokenizer import load_tokenizer
from mindcoder.tokenizer.code_tokenizer import begin_with

apply_cpu_shims()


class DecoderPretrainedConfig(PretrainedConfig):
    """The YAML file's ``model.model_config`` as MindFormers wants it; the keys and checks are the same.

    Subclasses name the section, and its ``type`` where the section has several.

    Raises:
        pydantic.ValidationError: an unknown key or a wrong type.
    """

    section_class: type[AnyModelSection]
    section_type: str

    def __init__(self, **settings: Any) -> None:
        own = {name: settings.pop(name) for name in list(settings) if name in self.section_class.model_fields}
        section = self.section_class(**{**own, "type": self.section_type})
        values = section.model_dump(exclude={"type"})
        # MindFormers' generator wants a list of end tokens.
        eos = values["eos_token_id"]
        values["eos_token_id"] = eos if isinstance(eos, list) else [eos]
        settings.setdefault("parallel_config", default_parallel_config)
        self.section = section
        super().__init__(**{**values, **settings})

    def to_dict(self) -> dict[str, Any]:
        """Without what is no plain data."""
        output = super().to_dict()
        output.pop("section", None)
        return output


class DecoderForCausalLM(PreTrainedModel):
    """The decoder of ``mindcoder predict`` and ``finetune``, with its head.

    Training calls give the mean loss, other calls the logits. ``generate`` uses `mindcoder.generate.engine`, so its
    tokens are those of ``mindcoder predict``.
    """

    config_class = DecoderPretrainedConfig
    base_model_prefix = "decoder"

    def __init__(self, config: DecoderPretrainedConfig) -> None:
        super().__init__(config, auto_prefix=False)
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
            labels: int32 ``[B, S]``, aligned with ``input_ids`` and -100 where nothing is to be learnt; the inputs
                themselves by default.
            position_ids, document_ids: int32 ``[B, S]`` of packed rows; one document a row by default.
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
        max_length: int | None = None,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        eos_token_id: int | list[int] | None = None,
        pad_token_id: int | None = None,
        seed: int = 0,
        return_dict_in_generate: bool = False,
        **unused: Any,
    ) -> Any:
        """Complete a batch of prompts; arguments as MindFormers' ``GenerationMixin.generate``.

        Returns:
            A list of arrays, prompt and answer; or ``{"sequences": list}``.

        Raises:
            TypeError: an argument that this engine has no use for.
        """
        unknown = [name for name, value in unused.items() if value not in (None, False)]
        if unknown:
            raise TypeError(f"generate: no argument {', '.join(unknown)}")
        section = generation_config or self.config.section
        prompts = self._prompts(input_ids, section.pad_token_id if pad_token_id is None else pad_token_id)
        length = max_length or self.config.section.max_decode_length or self.config.section.seq_length
        if max_new_tokens:
            length = max(len(prompt) for prompt in prompts) + max_new_tokens
        eos = eos_token_id if eos_token_id is not None else self.transformer_config.eos_token_id
        engine = self._engine(
            len(prompts),
            min(length, self.transformer_config.longest_text or length),
            frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos]),
            max(len(prompt) for prompt in prompts),
        )
        given = {
            "do_sample": do_sample,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "repetition_penalty": repetition_penalty,
        }
        chosen: dict[str, Any] = {
            name: getattr(section, name) if value is None else value for name, value in given.items()
        }
        completions = engine.generate(prompts, SamplingOptions(**chosen, seed=seed), max_new_tokens)
        sequences = [
            np.array([*prompt, *item.tokens, *([] if item.stopped_by is None else [item.stopped_by])], np.int32)
            for prompt, item in zip(prompts, completions)
        ]
        return {"sequences": sequences} if return_dict_in_generate else sequences

    def _prompts(self, input_ids: Any, pad_id: int | None) -> list[list[int]]:
        """Rows without their padding at the end."""
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
        """Weights from a MindCoder checkpoint or a Hugging Face folder."""
        return load_weights(self.decoder, location).describe()


class CodeTokenizerFast(PreTrainedTokenizerFast):
    """`mindcoder.tokenizer` for MindFormers; special tokens are those of the files, where arguments do not say.

    Args:
        vocab_file: tokenizer.json, tokenizer.model, vocab.json (with ``merge_file``), or a folder.
        merge_file: merges.txt.
        tokenizer_file: as ``vocab_file``; wins over it.
        pad_token: padding.

    Raises:
        ValueError: a file is missing or broken.
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
