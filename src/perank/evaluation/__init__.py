"""Measuring rankings: suites of queries, metrics, significance. Imports nothing heavy until it is used."""
