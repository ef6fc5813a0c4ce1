"""Saved models: a folder or a Hub repository, and the layout of the authors' checkpoints."""
