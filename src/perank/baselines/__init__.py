"""The baselines of the paper's tables, with the same `Ranker` protocol and the same cost accounting."""
