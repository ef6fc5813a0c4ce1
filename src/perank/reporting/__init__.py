"""Write measurements as tables, figures and results.csv."""
