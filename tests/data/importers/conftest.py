"""A small release of MIMIC-IV."""

import pytest

from tests.builders.mimic import CREATININE, HOUR, START, Release
from tests.builders.mimic_cohorts import DAY


@pytest.fixture
def small() -> Release:
    """One person, one admission of ten days with a stay of five, on 1 March 2150 at eight."""
    release = Release()
    release.patient(1)
    release.admission(1, 10, START, START + 10 * DAY)
    release.stay(1, 10, 100, START, START + 5 * DAY)
    release.lab(1, CREATININE, START + HOUR, 1.5)
    return release
