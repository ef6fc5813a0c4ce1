"""What a run will take before it is started: parameters, memory a GPU, tokens, FLOPs, hours. Nothing is loaded."""
