"""Where the time of a training step goes: parts of the step compiled and timed alone.

``python -m benchmarks.breakdown [tiny|large]``. Parts of one layer are multiplied by the number of layers; the rest
is the step less the sum of its parts, and negative where parts run faster inside the step than alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.record import write_result
from benchmarks.train_worker import SIZES, tokens


def median_seconds(work: Callable[[], object], rounds: int = 7) -> float:
    """Median of ``rounds`` after two to warm up."""
    for _ in range(2):
        work()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def main() -> None:
    """Measure and print shares of the whole step."""
    from mindcoder.backend.device import setup_device

    setup_device("CPU")
    import mindspore as ms
    from mindspore import Tensor, nn, ops

    from mindcoder.models.decoder import Decoder
    from mindcoder.models.transformer_config import TransformerConfig
    from mindcoder.train.optimizer import AdamW, AdamWOptions
    from mindcoder.train.step import TrainStep

    name = sys.argv[1] if len(sys.argv) > 1 else "large"
    size = SIZES[name]
    config = TransformerConfig(
        "gpt_bigcode", size.vocab, size.hidden, size.layers, size.heads, 1, 4 * size.hidden, 1024
    )
    decoder = Decoder(config)
    step = TrainStep(decoder, AdamW(ms.ParameterTuple(decoder.trainable_params()), AdamWOptions()), 1.0)
    step.set_train(True)
    batch = tokens(size)
    positions = np.tile(np.arange(size.length, dtype=np.int32), (size.batch, 1))
    data = (Tensor(batch[:, :-1]), Tensor(positions), Tensor(np.zeros_like(positions)), Tensor(batch[:, 1:]))
    seed, one = Tensor(0, ms.int32), Tensor(1.0, ms.float32)
    rows = Tensor(np.random.default_rng(0).standard_normal((size.batch * size.length, size.hidden)).astype(np.float32))

    class WithGradient(nn.Cell):
        """Forward and backward of one part; gives a scalar, so that no result is copied out."""

        def __init__(self, part: nn.Cell) -> None:
            super().__init__(auto_prefix=False)
            self.part = part
            self.gradient = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)
            self.weights = ms.ParameterTuple(part.trainable_params())

        def construct(self, x: Tensor, *others: Tensor) -> Tensor:
            inputs, grads = self.gradient(self.part, self.weights)(x, *others, x)
            total = inputs[0][0, 0]
            for grad in grads:
                total = ops.depend(total, grad)
            return total

    class Attention(nn.Cell):
        """A layer's attention with the batch's shape filled in."""

        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            self.attention = decoder.layers[0].attention

        def construct(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.attention(x, (), mask, Tensor(0, ms.int32), size.batch, size.length)

    class Loss(nn.Cell):
        """Head and cross entropy, gradients included."""

        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            self.loss = step.micro_batch.stage_gradients.loss

        def construct(self, x: Tensor, labels: Tensor) -> Tensor:
            loss, hidden, weight = self.loss(x, decoder.head_weight(), labels)
            return ops.depend(loss, (hidden, weight))

    def timed(cell: nn.Cell, *arguments: Tensor) -> float:
        cell.set_train(True)
        return median_seconds(lambda: cell(*arguments).asnumpy())

    mask = decoder.attention_masks(data[2])
    labels = data[3].reshape((-1,))
    whole = median_seconds(lambda: step(*data, seed, one * 1e-4, one, one, Tensor(True))[0].asnumpy())
    layers = size.layers
    parts = {
        "attention (projections, scores, softmax)": layers * timed(WithGradient(Attention()), rows, mask),
        "MLP (two products, GELU)": layers * timed(WithGradient(decoder.layers[0].mlp), rows),
        "LayerNorm": 2 * layers * timed(WithGradient(decoder.layers[0].attention_norm), rows),
        "head and cross entropy": timed(Loss(), rows, labels),
    }
    parts["the rest: residuals, embeddings, mask, clipping, AdamW"] = whole - sum(parts.values())
    print(f"{name}: one step {whole * 1e3:.0f} ms")
    for part, seconds in parts.items():
        print(f"  {seconds * 1e3:7.0f} ms  {seconds / whole:5.1%}  {part}")
    figures = {"step_s": whole, "parts_s": parts, "command": f"python -m benchmarks.breakdown {name}"}
    print(f"written to {write_result(f'breakdown_{name}', figures)}")


if __name__ == "__main__":
    main()
