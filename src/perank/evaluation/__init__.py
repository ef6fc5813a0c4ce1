"""Evaluate rankings: suites of queries, metrics, significance. Heavy packages are imported on use."""
