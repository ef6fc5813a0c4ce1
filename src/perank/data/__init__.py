"""Rows -> batches. Batches carry vectors, not texts to encode."""
