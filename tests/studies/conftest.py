"""Runs of the artificial study, and its one table."""

import pytest

from remind_studies.results import Panel as PanelTable
from remind_studies.results import Run
from tests.builders.study_processes import start_quickly
from tests.builders.study_results import PATIENTS, SKILLS, study
from tests.builders.study_runs import study_runs


@pytest.fixture(autouse=True)
def study_processes(monkeypatch):
    """Start the processes of studies quickly; `cells/test_pool.py` starts them as the command does."""
    start_quickly(monkeypatch)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return list(study_runs(PATIENTS, SKILLS, range(10)))


@pytest.fixture(scope="module")
def table(runs) -> PanelTable:
    return study(runs).panels[0]
