"""From instruction files to batches of token ids."""
