"""Text to token ids and back."""

from mindcoder.tokenizer.code_tokenizer import CodeTokenizer
from mindcoder.tokenizer.load import load_tokenizer

__all__ = ["CodeTokenizer", "load_tokenizer"]
