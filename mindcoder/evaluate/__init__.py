"""Evaluates generated code by running it: problems, protocol, sandbox, scores."""
