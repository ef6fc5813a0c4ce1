"""Speculation on fixed buffers: everything between two forwards is tensor arithmetic, so that a GPU can replay it."""
