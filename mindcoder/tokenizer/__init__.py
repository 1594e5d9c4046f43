"""Text to token ids and back."""

from mindcoder.tokenizer.bpe import CodeTokenizer, load_tokenizer

__all__ = ["CodeTokenizer", "load_tokenizer"]
