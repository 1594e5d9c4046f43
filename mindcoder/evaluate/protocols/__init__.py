"""The rules by which published harnesses prompt a model and parse its answer, one module each."""

from mindcoder.evaluate.protocols.base import Rules, Style
from mindcoder.evaluate.protocols.bigcode import BigCode
from mindcoder.evaluate.protocols.evalplus import EvalPlus
from mindcoder.evaluate.protocols.plain import Plain
from mindcoder.evaluate.protocols.wizardlm import WizardLM

RULES: dict[str, Rules] = {rules.name: rules for rules in (BigCode(), WizardLM(), EvalPlus(), Plain())}

__all__ = ["RULES", "Rules", "Style"]
