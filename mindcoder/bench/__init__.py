"""Benchmarks generation as the original MindFormers scripts did."""
