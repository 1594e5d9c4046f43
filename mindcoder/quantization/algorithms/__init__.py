"""How scales are chosen: one file an algorithm, see `registry`."""
