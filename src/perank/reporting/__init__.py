"""Write measurements as tables, figures and results.csv. Figures, grids and calibrations have their own modules."""

from perank.reporting.comparison import Measure, System, check_names, compared
from perank.reporting.layout import Layout
from perank.reporting.report import REPORT, merged, read_report, save_report, write_report
from perank.reporting.rows import ResultRow, read_results_csv, rows_from, write_results_csv
from perank.reporting.run_results import Measurement, Results, collect
from perank.reporting.tables import TEXTS, latency_table, render_table

__all__ = [
    "REPORT", "TEXTS", "Layout", "Measure", "Measurement", "ResultRow", "Results", "System", "check_names", "collect",
    "compared", "latency_table", "merged", "read_report", "read_results_csv", "render_table", "rows_from",
    "save_report", "write_report", "write_results_csv",
]  # fmt: skip
