"""The tests that every family of Hugging Face models passes; a family's file states what they are run with.

``class TestQwen3(FamilyTests)`` with the attributes below is a family's test file; what only this family has are
further methods or functions of that file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from families import (
    check_defaults,
    check_every_weight_comes_back,
    check_greedy_tokens,
    check_logits_loss_and_gradients,
    check_published_size,
    long_but,
)

from mindcoder.families.registry import family_of


class FamilyTests:
    """Logits, loss, gradients, greedy tokens, weights, fields and sizes beside transformers.

    Attributes:
        family: name of the family, as in the registry.
        variants: cases of ``pytest.param(fields, id=...)``; ``fields`` are those of ``config.json`` that differ from
            the random model of `families.random_model`.
        refused: ``(fields of config.json, part of the message)`` of what is not implemented.
        sizes: a part of ``configs/models`` → billions of parameters of the published weights.
        gradient_layers: layers of the models whose gradients are compared. Each takes MindSpore five seconds to
            compile; the comparison with recomputation, which is long, has two.
        quick_gradients: numbers of the variants that `make test` trains; it leaves the others to `make test-long`.
        layers: of the models that generate.
        quick_tokens: numbers of the variants that `make test` generates with.
        required: fields without a default that is implemented here.
    """

    family: ClassVar[str]
    variants: ClassVar[list[Any]]
    refused: ClassVar[list[tuple[dict, str]]]
    sizes: ClassVar[dict[str, float]]
    gradient_layers: ClassVar[int] = 1
    quick_gradients: ClassVar[tuple[int, ...]] = (0,)
    layers: ClassVar[int] = 2
    quick_tokens: ClassVar[tuple[int, ...]] = (0,)
    required: ClassVar[dict[str, Any]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per variant, refusal and size; of the longer tests `make test` has the quick variants."""
        quick = {
            "test_logits_loss_and_gradients_equal_huggingface": self.quick_gradients,
            "test_greedy_tokens_equal_huggingface_on_a_ragged_batch": self.quick_tokens,
        }.get(metafunc.function.__name__, range(len(self.variants)))
        if "variant" in metafunc.fixturenames:
            metafunc.parametrize("variant", long_but(self.variants, *quick))
        if "refusal" in metafunc.fixturenames:
            metafunc.parametrize("refusal", self.refused, ids=[message for _, message in self.refused])
        if "size" in metafunc.fixturenames:
            metafunc.parametrize("size", self.sizes)

    def test_logits_loss_and_gradients_equal_huggingface(
        self, variant: dict, hf_folder: Callable, rng: np.random.Generator
    ) -> None:
        model, decoder, _ = hf_folder(self.family, layers=self.gradient_layers, **variant)
        check_logits_loss_and_gradients(model, decoder, rng)

    @pytest.mark.long
    def test_recomputation_gives_the_same_gradients(self, hf_folder: Callable, rng: np.random.Generator) -> None:
        model, decoder, _ = hf_folder(self.family, layers=2, **self.variants[0].values[0])
        check_logits_loss_and_gradients(model, decoder, rng, recompute=True)

    def test_greedy_tokens_equal_huggingface_on_a_ragged_batch(
        self, variant: dict, hf_folder: Callable, rng: np.random.Generator
    ) -> None:
        model, decoder, _ = hf_folder(self.family, layers=self.layers, **variant)
        check_greedy_tokens(model, decoder, rng, new_tokens=40)

    @pytest.mark.long
    def test_200_greedy_tokens_equal_huggingface(
        self, variant: dict, hf_folder: Callable, rng: np.random.Generator
    ) -> None:
        model, decoder, _ = hf_folder(self.family, layers=self.layers, **variant)
        check_greedy_tokens(model, decoder, rng, new_tokens=200)

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_weights_and_config_json_survive_the_way_there_and_back(
        self, dtype: str, variant: dict, tmp_path: Path
    ) -> None:
        check_every_weight_comes_back(self.family, dtype, tmp_path, **variant)

    def test_defaults_are_those_of_transformers(self) -> None:
        check_defaults(self.family, **self.required)

    def test_what_is_not_implemented_is_refused_by_name(self, refusal: tuple[dict, str]) -> None:
        fields, message = refusal
        with pytest.raises(ValueError, match=message):
            family_of(self.family).config_from_huggingface(fields)

    def test_published_sizes_have_the_published_number_of_parameters(self, size: str) -> None:
        check_published_size(size, self.sizes[size])
