"""Test collections and where they come from: one source a file, all keeping `perank.records.Collection`."""
