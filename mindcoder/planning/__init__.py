"""Cost of a run before it starts: memory of every rank, bytes sent, seconds per step."""
