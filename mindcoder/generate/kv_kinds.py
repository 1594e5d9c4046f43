"""How the paged cache keeps keys and values, by name: what verbs can say without MindSpore."""

from __future__ import annotations

# In the network's floats; or int8, where a token's head has a scale of its own: its largest magnitude / 127.
FLOAT, INT8 = KV_CACHES = ("float", "int8")
