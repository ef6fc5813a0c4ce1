"""PE-Rank, or any `Ranker`, as a component of other libraries: one module per library, which imports that library."""
