"""Measuring rankings: metrics, significance, suites of queries, tables. Imports nothing heavy until it is used."""
