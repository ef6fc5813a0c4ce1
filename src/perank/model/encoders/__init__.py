"""The frozen text encoder and its supported architectures."""
