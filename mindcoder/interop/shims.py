"""Workarounds that MindFormers 1.9 needs on CPU. On Ascend nothing is changed."""

from __future__ import annotations

import os
from typing import Any


def prepare_environment() -> None:
    """Call before the first import of mindformers: its log goes to a temporary folder instead of ``./output``.

    Settings of the user take precedence.
    """
    import tempfile

    from mindcoder.backend.device import quiet_environment

    quiet_environment()
    folder = os.path.join(tempfile.gettempdir(), f"mindcoder-mindformers-{os.getuid()}")
    os.environ.setdefault("LOG_MF_PATH", os.path.join(folder, "log"))
    os.environ.setdefault("LOCAL_DEFAULT_PATH", folder)
    os.environ.setdefault("MS_DEV_JIT_SYNTAX_LEVEL", "2")


def apply_cpu_shims() -> None:
    """Replace the overflow check of MindFormers' training cell: CPU lacks NPUGetFloatStatusV2."""
    import mindspore as ms
    from mindspore import ops

    if ms.get_context("device_target") == "Ascend":
        return
    from mindformers.wrapper import wrapper

    def start_overflow_check(self: Any, pre_cond: Any, compute_input: Any) -> tuple[Any, Any]:
        return ms.Tensor(0.0, ms.float32), compute_input

    def get_overflow_status(self: Any, status: Any, compute_output: Any) -> Any:
        finite = ms.Tensor(True)
        for gradient in compute_output:
            finite = ops.logical_and(finite, ops.isfinite(gradient).all())
        return ops.logical_not(finite)

    wrapper.MFTrainOneStepCell.start_overflow_check = start_overflow_check
    wrapper.MFTrainOneStepCell.get_overflow_status = get_overflow_status
