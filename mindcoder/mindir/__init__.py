"""A model's graphs in MindSpore's MindIR, which run without this package."""
