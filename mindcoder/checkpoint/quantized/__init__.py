"""Folders of quantized weights: one file a format, read and written."""
