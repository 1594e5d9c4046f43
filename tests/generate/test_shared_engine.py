"""Ctrl-C while several threads share an engine: a KeyboardInterrupt of the main thread, and no event is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import REPOSITORY

from mindcoder.backend.device import interrupted_afterwards, interruptible
from mindcoder.generate.request import Event, Request, Sequence
from mindcoder.generate.sampler import Sampler, SamplingOptions, TokenChoice
from mindcoder.generate.shared_engine import SharedEngine


class Counting:
    """An engine whose step gives every running sequence a token; the second ends it.

    Args:
        interrupts: whether Ctrl-C comes amid the first step, between two sequences.
    """

    def __init__(self, interrupts: bool) -> None:
        self.interrupts, self.running = interrupts, []

    def submit(self, request: Request) -> Sequence:
        self.running.append(Sequence(request, Sampler(SamplingOptions(), (1,), 9), 3, frozenset(), [1]))
        return self.running[-1]

    def cancel(self, sequence: Sequence) -> None:
        self.running = [item for item in self.running if item is not sequence]

    def step(self, isolates: bool = False) -> list[Event]:
        events = []
        for sequence in list(self.running):
            sequence.take(5)
            events.append(Event(sequence, TokenChoice(5), sequence.finish_reason))
            if self.interrupts:
                self.interrupts = False
                signal.raise_signal(signal.SIGINT)
        return events


def test_an_interrupted_step_keeps_the_events_of_other_callers():
    shared = SharedEngine(Counting(interrupts=False))
    other = shared.follow([Request((1,))])
    assert next(other)[1].choice == TokenChoice(5)  # it runs
    shared.engine.interrupts = True
    with pytest.raises(KeyboardInterrupt):
        next(shared.follow([Request((1,))]))
    assert [event.finish_reason for _, event in other] == ["length"]


def test_a_second_interruption_does_not_wait():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupted_afterwards():
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
        signal.raise_signal(signal.SIGTERM)
        reached.append(2)
    assert reached == [1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


IN_A_THREAD = """
import os, signal, sys, threading, time
from mindcoder.backend.device import interruptible
{before}
inside, done = threading.Event(), threading.Event()

def work():
    with interruptible():
        inside.set()
        done.wait(30)

thread = threading.Thread(target=work)
thread.start()
inside.wait()
try:
    os.kill(os.getpid(), signal.SIGTERM)  # as MindSpore does when Ctrl-C comes while its graph runs
    thread.join(30)
    print("nothing")
except KeyboardInterrupt:
    print("interrupted")
done.set()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(5)
"""


@pytest.mark.parametrize(
    "before, said",
    [
        ("", "interrupted\n"),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", ""),  # as of a job in the background: SIGTERM still ends it
    ],
)
def test_mindspores_signal_is_an_interruption_while_another_thread_computes(before, said):
    program = IN_A_THREAD.format(before=before)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, said)


def test_a_programs_own_handler_is_left_alone():
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:

        def work() -> None:
            with interruptible():
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
