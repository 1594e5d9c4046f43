"""MindSpore imports this package and calls nothing of it."""
