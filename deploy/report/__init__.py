"""One HTML file that tells what a chain of runs did, to someone who has never seen the project."""

from deploy.report.report import ReportInputs, write_report

__all__ = ["ReportInputs", "write_report"]
