"""What a command line is, besides its settings: a folder of its own, and lines to copy."""
