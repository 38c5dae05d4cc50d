"""The cohort definitions of simulation/cohorts read the development data with the counts of its READMEs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from remind import groups
from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.sites.sites import number_of_sites

COHORTS = Path(__file__).parents[2] / "simulation" / "cohorts"
DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the development cohorts are not at {DATA}")

EXPECTED = {  # patients, positive labels, sites, groups
    "uci_heart4": (920, 509, 4, 8),
    "cinc2012_icu": (8000, 1122, 4, 30),
    "nhanes_2017_2020": (8965, 1420, 8, None),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_counts(name):
    n, positive, n_sites, n_groups = EXPECTED[name]
    cohort = read_cohort(COHORTS / f"{name}.toml")
    assert (len(cohort), cohort.label_N.sum(), number_of_sites(COHORTS / f"{name}.toml")) == (n, positive, n_sites)
    patients = pd.read_csv(DATA / name / "patients.csv", low_memory=False)
    assert patients["pid"].astype(str).tolist() == cohort.patient_id_N.tolist()
    has_Nm = patients[[f"has_{m}" for m in cohort.schema.names]].to_numpy(dtype=bool)
    np.testing.assert_array_equal(cohort.presence_Nm, has_Nm)
    assert n_groups in (None, len(groups.counts(cohort.groups_N)))
    assert cohort.split_N is None, "drawn again for every seed"


def test_no_outcome_is_a_feature():
    outcomes = {
        "label",
        "num",
        "published_SAPS_I",
        "published_SOFA",
        "los_d",
        "survival_d",
        "hba1c_ge_6_5",
        "acr_ge_30",
    }
    for name in EXPECTED:
        for modality in read_cohort(COHORTS / f"{name}.toml").schema.modalities:
            assert not outcomes & set(getattr(modality, "columns", ()))


def test_groups_of_nine_nhanes_modalities():
    cohort = read_cohort(COHORTS / "nhanes_2017_2020.toml")
    assert len(groups.counts(groups.masks(cohort.presence_Nm[:, :9]))) == 35


def test_check_finds_no_fault():
    report = check_cohort(COHORTS / "uci_heart4.toml")
    assert report.ok
    assert report.warnings == ()
