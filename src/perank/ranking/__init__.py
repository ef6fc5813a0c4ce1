"""From candidates to a ranking: decoders (Algorithm 1, and the same in fewer forwards), sliding windows, `Reranker`."""
