"""From one window to any number of candidates: sliding windows, and `Reranker`, what users import."""
