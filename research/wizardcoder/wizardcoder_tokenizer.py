"""``WizardCoderTokenizer`` under the module name that the original scripts import."""

from mindcoder.interop.shims import prepare_environment

prepare_environment()

from mindcoder.interop.classes import WizardCoderTokenizer  # noqa: E402

__all__ = ["WizardCoderTokenizer"]
