"""Vectors where they already are: indexes and databases as the `store` of a `Reranker`, one module per engine."""
