"""results.json: its format, and how a study's runs become it."""

from remind_studies.results.contenders import Run
from remind_studies.results.format import Results, StudyMade
from remind_studies.results.panel_format import Panel
from remind_studies.results.score_format import Best, Estimate, Gain, GroupScore, Joining, SiteScore, Summary
from remind_studies.results.tables import results

__all__ = [
    "Best",
    "Estimate",
    "Gain",
    "GroupScore",
    "Joining",
    "Panel",
    "Results",
    "Run",
    "SiteScore",
    "StudyMade",
    "Summary",
    "results",
]
