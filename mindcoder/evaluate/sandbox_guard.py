"""Prevents jumps between lines: standard library only, run in the child before the program.

A debugger may set ``f_lineno`` of a frame and so skip lines: a program could skip its tests. CPython allows
it only in a frame with a trace function (Objects/frameobject.c). A frame gets one by ``sys.settrace``
or by an assignment to its ``f_trace``. The assignment is removed. Before ``settrace`` does anything the interpreter
calls its audit hooks, however the program obtained the function, and a hook cannot be removed (PEP 578).
"""

import ctypes
import gc
import sys
import types


def forbid_jumps():
    """Forbid them for the rest of this process."""
    members = gc.get_referents(types.FrameType.__dict__)[0]  # the dict behind the read-only view
    members.pop("f_trace", None)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(types.FrameType))
    sys.settrace = _settrace
    sys.addaudithook(_hook)


def _hook(event, given):
    # Constants and locals only: names, defaults and cells could be changed by the program, its code could be replaced.
    assert event != "sys.settrace", "no tracing in the sandbox"
    if event in ("object.__setattr__", "object.__delattr__") and given[1] == "__code__":
        assert given[0].__code__.co_name != "_hook", "no tracing in the sandbox"


def _settrace(function):
    """Replacement of ``sys.settrace``: ``doctest`` resets the trace function to None."""
    if function is not None:
        raise RuntimeError("no tracing in the sandbox")
