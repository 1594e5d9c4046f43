"""Evaluation of code by running it: problems, protocol, sandbox, scores."""
