"""Build the objects of a run from a composed config, for all entry points. The only package that imports all others."""
