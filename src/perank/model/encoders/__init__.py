"""The frozen text encoder and the architectures it may have."""
