"""``CodeLlamaConfig``, ``CodeLlamaForCausalLM`` and ``CodeLlamaCodeTokenizer`` for scripts on MindFormers."""

from mindcoder.interop.shims import prepare_environment

prepare_environment()

from mindcoder.interop.classes import CodeLlamaCodeTokenizer, CodeLlamaConfig, CodeLlamaForCausalLM  # noqa: E402

__all__ = ["CodeLlamaConfig", "CodeLlamaForCausalLM", "CodeLlamaCodeTokenizer"]
