"""From measurements to tables, figures and results.csv."""
