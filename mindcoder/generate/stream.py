"""Text that grows token by token, without ever showing half a character."""

from __future__ import annotations

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
