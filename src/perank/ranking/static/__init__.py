"""Speculative decoding on fixed buffers: all work between forwards is tensor arithmetic, which a GPU can replay."""
