"""Signals that ask a training run to save and end."""

from __future__ import annotations

import os
import signal

import pytest

from mindcoder.train.trainer import Trainer


@pytest.fixture
def trainer():
    """As far as its signals go."""
    made = Trainer.__new__(Trainer)
    made._stop_signal = None
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_is_noted_and_the_second_ends(number, trainer):
    before = signal.getsignal(number)
    with trainer._signals():
        os.kill(os.getpid(), number)
        assert trainer._stop_signal == number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    "stopped, number, code",
    [(True, signal.SIGTERM, 143), (True, signal.SIGINT, 130), (True, signal.SIGHUP, 129), (True, None, 143),
     (False, None, 0), (False, signal.SIGTERM, 0)],
)  # fmt: skip
def test_a_run_that_was_cut_short_does_not_look_finished(stopped, number, code, trainer):
    """None: the signal went to another process. A signal during the last update finds the run finished."""
    trainer._stopped, trainer._stop_signal = stopped, number
    assert trainer.exit_code == code


@pytest.mark.parametrize(
    "step, said",
    [(0, "stopped before the first step; nothing was saved"), (3, "stopped after step 3, checkpoint saved")],
)
def test_what_is_said_of_a_checkpoint_is_true(step, said, trainer):
    trainer.step = step
    assert trainer._where_stopped().startswith(said)


def test_nohup_is_respected(trainer):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with trainer._signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert trainer._stop_signal is None
    finally:
        signal.signal(signal.SIGHUP, before)
