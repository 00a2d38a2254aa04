"""Policy: what its objects say, what is done, and what was meant."""
