"""The order of a pipeline step, on threads."""

from __future__ import annotations

import queue
import threading

import pytest

from mindcoder.parallel.pipeline_parallel import OneForwardOneBackward


class Pipe:
    """Both ways between two stages; whoever waits for more than a few seconds is stuck."""

    def __init__(self) -> None:
        self.forward, self.backward = queue.Queue(), queue.Queue()

    def end(self, is_before: bool):
        mine, theirs = (self.forward, self.backward) if is_before else (self.backward, self.forward)

        class End:
            def exchange(self, sent, receives):
                if sent is not None:
                    mine.put(sent)
                return theirs.get(timeout=5) if receives else None

        return End()


@pytest.mark.parametrize("stages, micro_batches", [(2, 1), (2, 4), (3, 2), (4, 8), (4, 3), (1, 2)])
def test_every_micro_batch_passes_all_stages_both_ways(stages, micro_batches):
    pipes = [Pipe() for _ in range(stages - 1)]
    most_under_way, grads = [0] * stages, [{} for _ in range(stages)]

    def work(stage: int) -> None:
        under_way = set()

        def forward(index, entered):
            value = (index, 0) if entered is None else entered
            under_way.add(index)
            most_under_way[stage] = max(most_under_way[stage], len(under_way))
            return value[0], value[1] + 1

        def backward(index, entered, gradient):
            expected = None if stage == 0 else (index, stage)
            assert entered == expected
            grads[stage][index] = 1 if gradient is None else gradient[1]
            assert gradient is None or gradient[0] == index
            under_way.discard(index)
            return index, grads[stage][index] + 1

        previous = pipes[stage - 1].end(False) if stage else None
        following = pipes[stage].end(True) if stage < stages - 1 else None
        OneForwardOneBackward(stage, stages, previous, following).run(micro_batches, forward, backward)

    threads = [threading.Thread(target=work, args=(stage,), daemon=True) for stage in range(stages)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for stage in range(stages):
        assert grads[stage] == dict.fromkeys(range(micro_batches), stages - stage)
        assert most_under_way[stage] <= min(stages - stage, micro_batches)
