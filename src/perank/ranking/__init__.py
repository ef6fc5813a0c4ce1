"""Ranking of candidates: decoders (Algorithm 1, and the same in fewer forwards), sliding windows, `Reranker`."""
