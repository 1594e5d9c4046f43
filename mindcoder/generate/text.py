"""An answer as text: token by token, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from mindcoder.tokenizer import CodeTokenizer

REPLACEMENT = "\ufffd"


class TextStream:
    """Decodes one sequence as its tokens arrive.

    Tokens are decoded behind those before them: SentencePiece drops the space in front of a text's first token, and
    only there.
    """

    def __init__(self, tokenizer: CodeTokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """New text that ``token`` completes; empty while a multi-byte character is still open."""
        self._pending.append(token)
        text = self._text()
        # Tokens decode apart once they end on a whole character; four bytes is UTF-8's longest.
        if text.endswith(REPLACEMENT) and len(self._pending) < 16:
            return ""
        self._context, self._pending = self._pending, []
        return text

    def finish(self) -> str:
        """What is left when the sequence ends."""
        text = self._text()
        self._pending = []
        return text

    def _text(self) -> str:
        if not self._pending:
            return ""
        before = self._tokenizer.decode(self._context, skip_special_tokens=True)
        return self._tokenizer.decode([*self._context, *self._pending], skip_special_tokens=True)[len(before) :]


class StoppedText:
    """Text of one answer; what might be the beginning of a stop string is held back until it is clear.

    Args:
        tokenizer: of the model.
        stops: the text ends before the first of them.

    Attributes:
        text: what has been given out.
        stopped: whether a stop string was found.
    """

    def __init__(self, tokenizer: CodeTokenizer, stops: Sequence[str] = ()) -> None:
        self._stream = TextStream(tokenizer)
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.text, self.stopped = "", False

    def push(self, token: int) -> str:
        """New text that is certain with ``token``."""
        return self._give(self._stream.push(token), is_last=False)

    def finish(self) -> str:
        """What is left when the answer ends."""
        return self._give(self._stream.finish(), is_last=True)

    def _give(self, fresh: str, is_last: bool) -> str:
        if self.stopped:
            return ""
        held = self._held + fresh
        found = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self.stopped, given, self._held = True, held[: min(found)], ""
        else:
            keep = 0 if is_last else self._undecided(held)
            given, self._held = held[: len(held) - keep], held[len(held) - keep :]
        self.text += given
        return given

    def _undecided(self, held: str) -> int:
        """Characters at the end that begin a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(held)), 0, -1):
            if any(stop.startswith(held[-size:]) for stop in self._stops):
                return size
        return 0
