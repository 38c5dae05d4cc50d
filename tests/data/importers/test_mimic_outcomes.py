"""MIMIC-IV: readmission and length of stay."""

from datetime import timedelta

import pandas as pd
import pytest

from remind.data.cohort.read import read_cohort
from remind.data.importers.mimic_iv import import_mimic
from tests.builders.mimic import CREATININE, HOUR, START
from tests.builders.mimic_cohorts import DAY, label_of, settings


@pytest.mark.parametrize(
    ("gap", "label"),
    [(timedelta(0), "yes"), (30 * DAY, "yes"), (30 * DAY + timedelta(seconds=1), "no"), (None, "no")],
)
def test_readmission_is_another_admission_within_30_days_of_the_discharge(small, tmp_path, gap, label):
    discharge = small.rows["hosp/admissions"][0]["dischtime"]
    if gap is not None:
        small.admission(1, 11, discharge + gap, discharge + gap + DAY)
    assert label_of(small, tmp_path, "readmission")[100] == label


def test_another_persons_admission_is_no_readmission_and_the_dead_do_not_return(small, tmp_path):
    discharge = small.rows["hosp/admissions"][0]["dischtime"]
    small.patient(2)
    small.admission(2, 20, discharge + DAY, discharge + 5 * DAY, death=discharge + 5 * DAY)
    small.stay(2, 20, 200, discharge + DAY, discharge + 5 * DAY)
    small.lab(2, CREATININE, discharge + DAY, 1)
    assert label_of(small, tmp_path, "readmission") == {100: "no"}


def test_days_until_the_stay_is_left_and_deaths_censor(small, tmp_path):
    small.rows["icu/icustays"][0]["outtime"] = START + 3 * DAY
    small.patient(2)
    small.admission(2, 20, START, START + 9 * DAY, death=START + 4 * DAY)
    small.stay(2, 20, 200, START, START + 5 * DAY)
    small.lab(2, CREATININE, START + HOUR, 1)
    root = small.write(tmp_path)
    import_mimic(settings(root, label="length-of-stay"))
    patients = pd.read_parquet(root / "cohort/patients.parquet").set_index("patient_id")
    assert patients["time"].to_dict() == pytest.approx({100: 3.0, 200: 4.0})
    assert patients["event"].to_dict() == {100: "left", 200: "died"}
    cohort = read_cohort(root / "cohort")
    assert cohort.schema.predicts.kind == "survival"
    assert cohort.label_N.tolist() == [1, 0]
