"""Calibration: what the linear layers of a model see on a few texts, one decoder layer in memory at a time."""
