"""``compute_dtype: bfloat16`` on CPU: factors of matrix products are rounded, all else is float32."""

from __future__ import annotations

from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
import torch
from mindspore import Tensor

from mindcoder.backend.library import has_bfloat16
from mindcoder.backend.operators import matrix_product
from mindcoder.families.transformer_config import TransformerConfig
from mindcoder.models.decoder import Decoder
from mindcoder.peft.lora import add_lora
from mindcoder.peft.options import LoraOptions
from mindcoder.train.optimizer import AdamW, AdamWOptions
from mindcoder.train.step import TrainStep

CONFIG = TransformerConfig("gpt_bigcode", 97, 64, 2, 4, 1, 256, 64)
ROWS, LENGTH, STEPS = 4, 48, 100

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor multiplies float32 as fast")


def rounded(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array).bfloat16().double()


@needs_bfloat16
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("sizes", [(5, 3, 9), (37, 50, 70), (64, 700, 1100)])
def test_products_are_those_of_rounded_factors(transpose_a, transpose_b, sizes):
    m, n, k = sizes
    random = np.random.default_rng(0)
    a = random.standard_normal((k, m) if transpose_a else (m, k)).astype(np.float32)
    b = random.standard_normal((n, k) if transpose_b else (k, n)).astype(np.float32)
    found = matrix_product(transpose_a, transpose_b, "bfloat16")(Tensor(a), Tensor(b)).asnumpy()
    expected = (rounded(a).T if transpose_a else rounded(a)) @ (rounded(b).T if transpose_b else rounded(b))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@needs_bfloat16
def test_halves_and_special_numbers_round_as_pytorchs():
    # Ties go to the even neighbor; infinities, NaN and the largest float32 stay what they are in bfloat16.
    halfway = np.array([0x3F808000, 0x3F818000, 0x3F808001], np.uint32).view(np.float32)
    values = np.concatenate([halfway, -halfway, [np.inf, -np.inf, np.nan, 3.4e38, 1e-40, 0.0]]).astype(np.float32)
    found = matrix_product(compute_dtype="bfloat16")(Tensor(values[:, None]), Tensor(np.ones((1, 1), np.float32)))
    expected = torch.tensor(values).bfloat16().float().numpy()
    np.testing.assert_allclose(found.asnumpy()[:, 0], expected, atol=1e-38)


def losses(compute_dtype: str, lora: bool) -> np.ndarray:
    """Of `STEPS` updates on a few texts that repeat."""
    decoder = Decoder(replace(CONFIG, compute_dtype=compute_dtype), seed=1)
    if lora:
        add_lora(decoder, LoraOptions(8, 16, target_modules=(".*",)), 0)
    step = TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions()), 1.0)
    step.set_train(True)
    positions = Tensor(np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)))
    result = []
    for number in range(STEPS):
        ids = np.random.default_rng(number % 5).integers(0, 97, (ROWS, LENGTH + 1)).astype(np.int32)
        loss, _ = step(
            *(Tensor(ids[:, :-1]), positions, Tensor(np.zeros((ROWS, LENGTH), np.int32)), Tensor(ids[:, 1:])),
            *(Tensor(number, ms.int32), Tensor(1e-3, ms.float32), Tensor(1.0, ms.float32)),
            *(Tensor(1.0, ms.float32), Tensor(True)),
        )
        result.append(float(loss.asnumpy()))
    return np.array(result)


@pytest.mark.parametrize("lora", [False, True], ids=["all", "lora"])
def test_losses_of_a_hundred_steps_stay_within_a_hundredth_of_float32s(lora):
    full, half = losses("float32", lora), losses("bfloat16", lora)
    assert full[-1] < full[0] - 0.05
    np.testing.assert_allclose(half, full, rtol=1e-2)
    assert has_bfloat16() != (half == full).all()
