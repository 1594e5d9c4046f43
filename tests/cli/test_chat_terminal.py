"""``mindcoder chat`` at a real terminal: line editing, pasted lines, Ctrl-C, history."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time

PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"
PROMPT = "\x1b[0m>"  # as it is drawn


class Terminal:
    """A process with a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.descriptor, other = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            command,
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C becomes a signal
        )
        os.close(other)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """What came until ``text``; it is taken away from ``seen``."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.descriptor], [], [], 0.2)
            if ready:
                self.seen += os.read(self.descriptor, 65536).decode(errors="replace")
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-2000:]!r}"
        before, _, self.seen = self.seen.partition(text)
        return before


def test_a_conversation_at_a_terminal(served_folder, tmp_path):
    history = tmp_path / "history"
    terminal = Terminal(
        sys.executable, "-m", "mindcoder.cli.main", "chat", str(served_folder), "--history", str(history)
    )
    try:
        terminal.wait_for("/help lists the commands")
        terminal.wait_for(PROMPT)
        terminal.type("/system Be brief\r")
        terminal.wait_for("system message: Be brief")
        terminal.wait_for(PROMPT)
        stopped, asked = False, 0
        while not stopped:  # an answer may be over before it can be stopped
            asked += 1
            assert asked < 9
            terminal.type(f"{PASTE_BEGIN}first line\nsecond line {asked}{PASTE_END}\r")
            terminal.wait_for(f"second line {asked}")
            time.sleep(0.02 * asked)
            terminal.type("\x03")  # stops the answer, never the program
            stopped = "tokens (cancelled)" in terminal.wait_for(", first after")
            terminal.wait_for(PROMPT)
        terminal.type("/save talk\x7f\x7f\x7f\x7f" + str(tmp_path / "talk.json") + "\r")  # corrected before it is sent
        terminal.wait_for(f"{2 * asked} messages written")
        terminal.wait_for(PROMPT)
        terminal.type("/exit\r")
        assert terminal.process.wait(20) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.descriptor)
    assert "first line\\nsecond line 1" in (tmp_path / "talk.json").read_text()
    kept = history.read_text()
    assert "+first line\n+second line 1" in kept and "/system Be brief" in kept
