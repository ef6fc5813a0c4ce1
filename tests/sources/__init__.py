"""Tests of perank.sources."""
