"""Sections of the YAML file that families build on, and what a section is; the whole file is `mindcoder.config`."""
