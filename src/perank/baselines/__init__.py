"""The other systems of the paper's tables, behind the same `Ranker` protocol, with the same bill."""
