"""Which kernel classes the device in use has: one module a device, the same class names in each."""

from __future__ import annotations

from types import ModuleType


def device_kernels() -> ModuleType:
    """The module that has the operators of `mindcoder.backend.composed` for MindSpore's current device."""
    import mindspore as ms

    if ms.get_context("device_target") == "Ascend":
        from mindcoder.backend import fused

        return fused
    from mindcoder.backend import composed

    return composed
