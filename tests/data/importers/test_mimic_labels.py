"""MIMIC-IV: which stays are examples, and with which label."""

from datetime import timedelta

import pytest

from remind.data.importers.mimic_iv import import_mimic
from remind.errors import UserError
from tests.builders.mimic import CREATININE, HOUR, LACTATE, START
from tests.builders.mimic_cohorts import DAY, found, label_of, settings


@pytest.mark.parametrize(
    ("death", "label"),
    [
        (timedelta(hours=48, seconds=1), "died"),
        (timedelta(hours=96), "died"),
        (timedelta(hours=96, seconds=1), "alive"),
        (None, "alive"),
    ],
)
def test_48h_is_death_within_48_hours_after_hour_48(small, tmp_path, death, label):
    if death is not None:
        small.rows["hosp/admissions"][0] |= {"deathtime": START + death, "hospital_expire_flag": 1}
    assert label_of(small, tmp_path) == {100: label}
    assert label_of(small, tmp_path, "in-hospital", "two") == {100: "alive" if death is None else "died"}


def test_who_died_or_left_before_hour_48_is_no_example(small, tmp_path):
    for subject, row in {2: {"deathtime": START + 48 * HOUR, "hospital_expire_flag": 1}, 3: {}, 4: {}}.items():
        small.patient(subject)
        small.admission(subject, subject * 10, START, START + 10 * DAY) | row
        small.rows["hosp/admissions"][-1] |= row
        end = {2: 5 * DAY, 3: 48 * HOUR - timedelta(seconds=1), 4: 48 * HOUR}[subject]
        small.stay(subject, subject * 10, subject * 100, START, START + end)
        small.lab(subject, CREATININE, START, 1)
    root = small.write(tmp_path)
    summary = import_mimic(settings(root))
    assert set(found(root / "cohort")) == {100, 400}
    assert dict(summary.left_out)["deaths before hour 48, the index time"] == 1
    assert dict(summary.left_out)["stays that ended before hour 48, the index time"] == 1
    assert "       1  deaths before hour 48" in summary.to_text()


def test_a_stay_ends_with_the_hospital_admission_at_the_latest(small, tmp_path):
    small.rows["hosp/admissions"][0]["dischtime"] = START + 47 * HOUR
    with pytest.raises(UserError, match="stays that ended before hour 48, the index time: 1"):
        import_mimic(settings(small.write(tmp_path)))


def test_a_note_that_was_stored_before_it_was_charted_is_not_known(small, tmp_path):
    small.note("radiology", 1, 10, START + 49 * HOUR, START + HOUR, "of the future")
    small.note("radiology", 1, 10, START + 48 * HOUR, START + 48 * HOUR, "in time")
    root = small.write(tmp_path)
    summary = import_mimic(settings(root))
    assert found(root / "cohort")[100]["notes"] == {("in time", 0)}
    assert dict(summary.left_out)["notes that were stored after the index time, or at no known time"] == 1


@pytest.mark.parametrize(
    ("days", "label"),
    [(0, "died"), (364, "died"), (365, "alive"), (400, "alive")],
    ids=["same day", "364", "365", "400"],
)
def test_one_year_counts_from_the_discharge(small, tmp_path, days, label):
    """A death that is known by its day is taken as the end of that day."""
    small.rows["hosp/patients"][0]["dod"] = (START + (10 + days) * DAY).date()
    assert label_of(small, tmp_path, "one-year") == {100: label}


def test_one_year_has_no_stays_that_ended_with_death_and_one_per_admission(small, tmp_path):
    small.stay(1, 10, 101, START + 6 * DAY, START + 7 * DAY)
    small.patient(2, (START + 3 * DAY).date())
    small.admission(2, 20, START, START + 3 * DAY, START + 3 * DAY)
    small.stay(2, 20, 200, START, START + 3 * DAY)
    small.lab(2, CREATININE, START, 1)
    assert label_of(small, tmp_path, "one-year") == {100: "alive"}


def test_a_result_that_came_back_later_was_not_known(small, tmp_path):
    late, early = START + 48 * HOUR + timedelta(seconds=1), START + 48 * HOUR
    small.lab(1, LACTATE, START + 47 * HOUR, 3.0, stored=late)
    small.lab(1, LACTATE, START + 48 * HOUR, 2.0, stored=early)
    small.lab(1, LACTATE, START + 48 * HOUR + timedelta(seconds=1), 2.0)
    small.lab(1, LACTATE, START - timedelta(seconds=1), 2.0)
    root = small.write(tmp_path)
    summary = import_mimic(settings(root))
    assert found(root / "cohort")[100]["labs"] == {("Creatinine", 1, 1.5), ("Lactate", 48, 2)}
    assert dict(summary.left_out)["labs and vitals that were stored after the index time"] == 1
