"""Test collections: one source per file, all implementing `perank.records.Collection`."""
