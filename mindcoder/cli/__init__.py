"""The command line: ``mindcoder <verb>``, and the scripts in ``research/``."""
