"""Estimate a run before it starts: parameters, memory per GPU, tokens, FLOPs and hours, without loading weights."""
