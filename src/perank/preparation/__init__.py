"""Training sets: candidates and a teacher's order -> rows."""
