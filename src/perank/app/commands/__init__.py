"""The `perank` command, and what its sub-commands are made of."""
