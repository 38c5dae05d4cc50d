"""Series with dates: hours since a start in the patients file, or one message with the remedy."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remind.data.checks.check import check_cohort
from remind.data.cohort.moments import seconds
from remind.data.cohort.read import read_cohort
from remind.errors import UserError
from tests.builders.cohorts import contents

SECTION = '[modalities.v]\nkind = "series"\nitems = ["HR"]\nhorizon = 48\n'


@pytest.fixture
def folder(tmp_path):
    starts = ["2150-01-01 10:00:00", "2150-02-01", "2150-03-01T00:30"]
    table = pd.DataFrame({"patient_id": ["a", "b", "c"], "label": ["no", "yes", "no"], "admitted": starts})
    table.to_csv(tmp_path / "patients.csv", index=False)
    times = ["2150-01-01 11:30:00", "2150-02-02 00:00:00", "2150-03-01 01:00:00"]
    series = pd.DataFrame({"patient_id": ["a", "b", "c"], "time": times, "item": "HR", "value": 80})
    series.to_csv(tmp_path / "v.csv", index=False)
    toml = f'name = "c"\n[label]\nclasses = ["no", "yes"]\n{SECTION}start = "admitted"\n'
    (tmp_path / "cohort.toml").write_text(toml)
    return tmp_path


def test_dates_become_hours_since_the_start(folder):
    assert contents(read_cohort(folder), "v").time_O.tolist() == [1.5, 24, 0.5]
    table = pd.read_csv(folder / "v.csv", parse_dates=["time"])
    (folder / "v.csv").unlink()
    table.to_parquet(folder / "v.parquet")
    assert contents(read_cohort(folder), "v").time_O.tolist() == [1.5, 24, 0.5]


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


MISTAKES = {
    "before the start": ("v.csv", "2150-01-01 11", "2149-01-01 11", ("v.csv", 2, "negative time")),
    "no date": ("v.csv", "2150-02-02 00:00:00", "02/03/2150", ("v.csv", 3, "not a date and time")),
    "no time": ("v.csv", "2150-02-02 00:00:00", "", ("v.csv", 3, "no time")),
    "no start": ("patients.csv", "2150-02-01", "", ("v.csv", 3, "the patient has no start to count from")),
    "start is no date": ("patients.csv", "2150-02-01", "Monday", ("patients.csv", 3, "not a date and time")),
    "no such column": ("cohort.toml", '"admitted"', '"admited"', ("patients.csv", None, "no such column")),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(case, folder):
    file, old, new, expected = MISTAKES[case]
    edit(folder / file, old, new)
    assert expected in [(p.file, p.row, p.what) for p in check_cohort(folder).problems]


@pytest.mark.parametrize("time", ["21500101", "21500101103000", "1420110000"])  # dates as numbers, seconds of a clock
def test_no_patient_is_observed_for_centuries(time, folder):
    edit(folder / "cohort.toml", 'start = "admitted"\n', "clip = true\n")
    table = pd.read_csv(folder / "v.csv")
    table.assign(time=time).to_csv(folder / "v.csv", index=False)
    (problem,) = check_cohort(folder).problems
    assert (problem.column, problem.what) == ("time", "more than 120 years after the start (3 rows in all)")


def test_a_date_is_one_problem_and_not_also_a_missing_time(folder):
    edit(folder / "cohort.toml", 'start = "admitted"\n', "")
    assert [p.what for p in check_cohort(folder).problems] == ["a date or time, not a number (3 rows in all)"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_lengths_of_time_bring_their_unit(unit, folder):
    edit(folder / "cohort.toml", 'start = "admitted"\n', "")
    (folder / "v.csv").unlink()
    times = pa.array([timedelta(hours=h) for h in (1.5, 24, 0.5)], pa.duration(unit))
    series = {"patient_id": ["a", "b", "c"], "time": times, "item": ["HR"] * 3, "value": [80.0] * 3}
    pq.write_table(pa.table(series), folder / "v.parquet")
    assert contents(read_cohort(folder), "v").time_O.tolist() == [1.5, 24, 0.5]


def test_a_start_and_a_unit_contradict_each_other(folder):
    edit(folder / "cohort.toml", "start =", 'time_unit = "day"\nstart =')
    with pytest.raises(UserError, match="leave time_unit out"):
        check_cohort(folder)


def test_without_a_start_the_message_says_how(folder):
    edit(folder / "cohort.toml", 'start = "admitted"\n', "")
    problem = check_cohort(folder).problems[0]
    assert (problem.file, problem.row, problem.column) == ("v.csv", 2, "time")
    assert "a date or time, not a number" in problem.what
    assert 'start = "…" in [modalities.v]' in problem.remedy


def test_seconds_of_every_type():
    day = datetime(2150, 1, 2, 3, 4, 5, tzinfo=UTC)
    zone = timezone(timedelta(hours=2))
    columns = [
        pa.array([day.replace(tzinfo=None), None], pa.timestamp("ns")),
        pa.array([day, None], pa.timestamp("s", "Europe/Berlin")),
        pa.array(["2150-01-02 03:04:05", None], pa.large_string()),
        pa.array(["2150-01-02 03:04:05", "NaT"], pa.large_string()),
        pa.array([day.astimezone(zone).isoformat(), "None"], pa.large_string()),
    ]
    for column in columns:
        found, bad = seconds(column)
        np.testing.assert_array_equal(found, [day.timestamp(), np.nan])
        assert not bad.any()
    found, _ = seconds(pa.array([date(2150, 1, 2)]))
    assert found[0] == datetime(2150, 1, 2, tzinfo=UTC).timestamp()
    assert seconds(pa.array([3.5, None]))[1].tolist() == [True, False]
