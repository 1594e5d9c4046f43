"""One graph at a time: MindSpore's executor is the process's, not a thread's.

A graph that a second thread compiles or runs meanwhile, of whatever network, ends in "Nested execution during JIT
execution … is not supported" (MindSpore 2.9). So the lock is the process's too, and no model has one of its own.
"""

from __future__ import annotations

import threading

GRAPH_LOCK = threading.RLock()
