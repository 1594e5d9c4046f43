"""Speculative decoding: a small draft model proposes tokens, the model checks them all in one step.

Leviathan et al. 2023. Greedy only: a proposal is kept while it is what the model itself would have chosen, so the
tokens are those of plain decoding (with the C++ operators to the bit, where tokens do not depend on one another).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from mindcoder.errors import UserError
from mindcoder.generate.engine import BLOCK_SIZE, LARGEST_CHUNK
from mindcoder.generate.runner import Runner, StepInput
from mindcoder.generate.sampler import refuse_not_a_number
from mindcoder.models.decoder import Decoder


class CachedText:
    """A model and the one text whose keys and values are in its cache.

    Args:
        decoder: the network with its weights.
        max_length: longest text.
        max_num_logits: tokens whose logits a step may compute.
    """

    def __init__(self, decoder: Decoder, max_length: int, max_num_logits: int) -> None:
        blocks = -(-max_length // BLOCK_SIZE)
        self.runner = Runner(decoder, blocks + 1, BLOCK_SIZE, max_length, 1, LARGEST_CHUNK, max_num_logits)
        self.blocks = list(range(1, blocks + 1))
        self.tokens: list[int] = []

    def keep(self, tokens: Sequence[int]) -> int:
        """Forget what is not a beginning of ``tokens``; gives how many are left, not all of them."""
        same = 0
        for old, new in zip(self.tokens, tokens[:-1]):
            if old != new:
                break
            same += 1
        del self.tokens[same:]
        return same

    def extend(self, tokens: Sequence[int], num_logits: int, prompt: int) -> np.ndarray:
        """Append tokens; logits ``[num_logits, V]`` of the last of them."""
        logits = np.empty((0, 0), np.float32)
        for begin in range(0, len(tokens), self.runner.chunk):
            part = list(tokens[begin : begin + self.runner.chunk])
            is_last = begin + len(part) == len(tokens)
            item = StepInput(part, len(self.tokens), self.blocks, num_logits if is_last else 0, prompt)
            logits = self.runner.run([item])
            self.tokens += part
        return logits


class SpeculativeDecoder:
    """Greedy generation for one text at a time.

    Args:
        decoder: the model.
        draft: a smaller model with the same vocabulary.
        max_length: prompt and answer together.
        stop_ids: each ends an answer.
        vocab_size: ids the tokenizer knows.
        lookahead: tokens proposed at a time.

    Attributes:
        proposed, accepted: tokens so far.
        reused: prompt tokens of the last text that were in the model's cache.

    Raises:
        UserError: the vocabularies differ, or a model is too short.
    """

    def __init__(
        self,
        decoder: Decoder,
        draft: Decoder,
        max_length: int,
        stop_ids: Collection[int],
        vocab_size: int,
        lookahead: int = 4,
    ) -> None:
        if draft.config.vocab_size != decoder.config.vocab_size:
            sizes = f"{draft.config.vocab_size} tokens, the model {decoder.config.vocab_size}"
            raise UserError(f"the draft model has {sizes}: they need one tokenizer")
        for name, config in (("model", decoder.config), ("draft model", draft.config)):
            if config.longest_text is not None and config.longest_text < max_length:
                raise UserError(f"a length of {max_length} tokens is over the {name}'s {config.longest_text} positions")
            scaling = config.rope_scaling
            if scaling is not None and scaling.kind == "longrope" and max_length > scaling.original_length:
                raise UserError(
                    f"the {name} has longrope, whose keys change at {scaling.original_length} tokens: with a draft "
                    f"model expected at most that many, found {max_length}"
                )
        self.max_length, self.stop_ids, self.vocab_size = max_length, frozenset(stop_ids), vocab_size
        self.lookahead = lookahead
        self.model = CachedText(decoder, max_length, lookahead + 1)
        self.draft = CachedText(draft, max_length, 1)
        self.proposed = self.accepted = self.reused = 0

    @property
    def acceptance(self) -> float:
        """Share of the proposals that were kept."""
        return self.accepted / self.proposed if self.proposed else 0.0

    def stream(self, prompt: Sequence[int], max_new_tokens: int | None = None) -> Iterator[int]:
        """The answer's tokens; a stop id is left out.

        Raises:
            UserError: the output of a network is not a number.
        """
        tokens = list(prompt)
        limit = min(self.max_length, len(tokens) + (max_new_tokens or self.max_length))
        self.reused = self.model.keep(tokens)
        chosen = self._choose(self.model.extend(tokens[self.reused :], 1, len(prompt)))
        while True:
            for token in chosen:
                if token in self.stop_ids or len(tokens) >= limit:
                    return
                tokens.append(token)
                yield token
            if len(tokens) >= limit:
                return
            proposals = self._propose(tokens, min(self.lookahead, limit - len(tokens) - 1), len(prompt))
            self.model.keep([*tokens, 0])  # what was not accepted goes
            logits = self.model.extend([*tokens[len(self.model.tokens) :], *proposals], len(proposals) + 1, len(prompt))
            own = self._choose(logits)
            kept = next((index for index, token in enumerate(proposals) if own[index] != token), len(proposals))
            self.proposed += len(proposals)
            self.accepted += kept
            chosen = own[: kept + 1]

    def _propose(self, tokens: list[int], count: int, prompt: int) -> list[int]:
        proposals: list[int] = []
        pending = tokens[self.draft.keep(tokens) :]
        while len(proposals) < count:
            proposals += self._choose(self.draft.extend(pending, 1, prompt))
            pending = proposals[-1:]
        return proposals

    def _choose(self, logits: np.ndarray) -> list[int]:
        known = logits[:, : self.vocab_size]
        refuse_not_a_number(known)
        return known.argmax(1).tolist()
