"""MindCoder: pretrain, fine-tune, evaluate and run code models on MindSpore.

``import mindcoder`` is cheap: MindSpore is imported by the first call that computes. See docs/python.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mindcoder.api import convert, export, finetune, load, plan, pretrain, quantize, verify
from mindcoder.errors import UserError

if TYPE_CHECKING:
    from mindcoder.compare.comparison import Comparison
    from mindcoder.generate.loaded_model import Answer, Model
    from mindcoder.mindir.run import Export
    from mindcoder.planning.estimate import Estimate
    from mindcoder.train.callbacks.base import Callback
    from mindcoder.train.job import Run

__version__ = "0.6.0"
__all__ = [
    "Answer",
    "Callback",
    "Comparison",
    "Estimate",
    "Export",
    "Model",
    "Run",
    "UserError",
    "__version__",
    "convert",
    "export",
    "finetune",
    "load",
    "plan",
    "pretrain",
    "quantize",
    "verify",
]

_TYPES = {
    "Answer": "mindcoder.generate.loaded_model",
    "Callback": "mindcoder.train.callbacks.base",
    "Comparison": "mindcoder.compare.comparison",
    "Estimate": "mindcoder.planning.estimate",
    "Export": "mindcoder.mindir.run",
    "Model": "mindcoder.generate.loaded_model",
    "Run": "mindcoder.train.job",
}


def __getattr__(name: str) -> Any:
    """Types of results, whose modules import MindSpore."""
    if name in _TYPES:
        return getattr(import_module(_TYPES[name]), name)
    raise AttributeError(f"module 'mindcoder' has no attribute {name!r}")
