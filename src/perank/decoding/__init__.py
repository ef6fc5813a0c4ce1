"""From scores to a ranking: Algorithm 1 (`constrained`), the same in fewer forwards (`speculative`), `single_pass`."""
