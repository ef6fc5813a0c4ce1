"""From a composed config to the objects of a run: what entry points share. The only package that sees all others."""
