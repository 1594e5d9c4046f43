"""``StarCoder2Config``, ``StarCoder2ForCausalLM`` and ``StarCoder2Tokenizer`` for scripts on MindFormers."""

from mindcoder.interop.shims import prepare_environment

prepare_environment()

from mindcoder.interop.classes import StarCoder2Config, StarCoder2ForCausalLM, StarCoder2Tokenizer  # noqa: E402

__all__ = ["StarCoder2Config", "StarCoder2ForCausalLM", "StarCoder2Tokenizer"]
