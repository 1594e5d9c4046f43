"""What ``import mindcoder`` offers. MindSpore is imported by the first call that computes."""

from mindcoder.api.models import load, verify
from mindcoder.api.training import finetune, plan, pretrain
from mindcoder.api.weights import convert, export, quantize

__all__ = ["convert", "export", "finetune", "load", "plan", "pretrain", "quantize", "verify"]
