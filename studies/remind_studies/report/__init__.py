"""The HTML report of a study: one file that can be mailed, generated from results.json alone."""

from remind_studies.report.markdown import markdown
from remind_studies.report.write import render, write_report

__all__ = ["markdown", "render", "write_report"]
