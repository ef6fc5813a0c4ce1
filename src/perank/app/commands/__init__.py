"""The `perank` command, and what command lines are besides settings: a folder of their own, and lines to copy."""
