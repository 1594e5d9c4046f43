"""How the paged cache keeps keys and values, by name: what verbs can say without MindSpore."""

from __future__ import annotations

# In the network's floats; or int8, by the scales of channels that lie with the weights, else each head of a token by a
# scale of its own: its largest magnitude / 127.
FLOAT, INT8 = KV_CACHES = ("float", "int8")
