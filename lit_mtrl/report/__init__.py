"""From recorded runs to figures, tables and one HTML page: `write_report` of what `read_folders` or `read_mlflow` has
read.
"""

from lit_mtrl.report.mlflow_runs import find_sweeps, log_report, read_mlflow
from lit_mtrl.report.runs import read_folder, read_folders
from lit_mtrl.report.write import default_folder, write_report

__all__ = ["default_folder", "find_sweeps", "log_report", "read_folder", "read_folders", "read_mlflow", "write_report"]
