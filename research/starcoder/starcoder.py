"""``StarCoderConfig``, ``StarCoderLMHeadModel`` and ``StarCoderTokenizer`` for scripts on MindFormers."""

from mindcoder.interop.shims import prepare_environment

prepare_environment()

from mindcoder.interop.classes import StarCoderConfig, StarCoderLMHeadModel, StarCoderTokenizer  # noqa: E402

__all__ = ["StarCoderConfig", "StarCoderLMHeadModel", "StarCoderTokenizer"]
