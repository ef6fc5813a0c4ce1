"""The first stage, and the store of passage embeddings: everything that looks at a whole corpus."""
