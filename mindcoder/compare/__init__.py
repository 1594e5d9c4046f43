"""Whether two models say the same: logits, KL divergence, top-1 agreement, perplexity."""
