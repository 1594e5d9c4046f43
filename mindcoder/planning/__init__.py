"""What a run will cost before it starts: memory of every rank, bytes sent, seconds per step."""
