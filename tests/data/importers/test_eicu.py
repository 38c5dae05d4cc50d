"""eICU: a small release by hand. Nothing after the index time is an input; hospitals are sites; every outcome."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from remind.cli import app
from remind.data.cohort.read import read_cohort
from remind.data.importers.eicu import FILES, EicuSettings, import_eicu
from remind.errors import UserError

DAY = 1440
MONITOR = "temperature sao2 heartrate respiration systemicsystolic systemicdiastolic systemicmean"
COLUMNS = {
    "patient": (
        "patientunitstayid patienthealthsystemstayid gender age ethnicity hospitalid wardid hospitaladmitoffset "
        "hospitaldischargeoffset hospitaldischargestatus unittype unitdischargeoffset unitdischargestatus uniquepid"
    ),
    "lab": "labid patientunitstayid labresultoffset labtypeid labname labresult labresulttext",
    "vitalPeriodic": f"vitalperiodicid patientunitstayid observationoffset {MONITOR} cvp",
    "vitalAperiodic": (
        "vitalaperiodicid patientunitstayid observationoffset noninvasivesystolic noninvasivediastolic noninvasivemean"
    ),
    "diagnosis": "diagnosisid patientunitstayid activeupondischarge diagnosisoffset diagnosisstring icd9code",
}


def patient(stay, person, hospital, days, unit="Alive", end="Alive", **more):
    return {
        "patientunitstayid": stay,
        "uniquepid": person,
        "hospitalid": hospital,
        "unitdischargeoffset": int(days * DAY),
        "hospitaldischargeoffset": int((days + 1) * DAY),
        "unitdischargestatus": unit,
        "hospitaldischargestatus": end,
        "hospitaladmitoffset": -10,
        "gender": "Female",
        "age": "70",
        "unittype": "MICU",
        **more,
    }


ROWS = {
    "patient": [
        patient(1, "p1", 73, 4.5, age="> 89"),
        patient(2, "p1", 73, 2, end="Expired", hospitaladmitoffset=-9000),
        patient(3, "p2", 110, 6, unit="Expired", end="Expired", gender="Unknown"),
        patient(4, "p3", 110, 0.5),
        patient(5, "p4", 110, 3, unit="", end=""),
    ],
    "lab": [
        {"patientunitstayid": 1, "labresultoffset": 60, "labname": "creatinine", "labresult": 1.5},
        {"patientunitstayid": 1, "labresultoffset": DAY, "labname": "lactate", "labresult": 2.0},
        {"patientunitstayid": 1, "labresultoffset": DAY + 1, "labname": "lactate", "labresult": 9.0},
        {"patientunitstayid": 1, "labresultoffset": -5, "labname": "lactate", "labresult": 9.0},
        {"patientunitstayid": 3, "labresultoffset": 5, "labname": "creatinine", "labresult": 500.0},
        {"patientunitstayid": 3, "labresultoffset": 5, "labname": "urinary sodium", "labresult": 50.0},
        {"patientunitstayid": 4, "labresultoffset": 5, "labname": "lactate", "labresult": 3.0},
    ],
    "vitalPeriodic": [
        {"patientunitstayid": 3, "observationoffset": 30, "heartrate": 88, "sao2": 97},
        {"patientunitstayid": 3, "observationoffset": 2 * DAY, "heartrate": 10},
    ],
    "vitalAperiodic": [{"patientunitstayid": 2, "observationoffset": 90, "noninvasivemean": 65}],
    "diagnosis": [
        {"patientunitstayid": 2, "diagnosisoffset": 100, "diagnosisstring": "pulmonary|respiratory failure"},
        {"patientunitstayid": 2, "diagnosisoffset": 2000, "diagnosisstring": "cardiovascular|cardiac arrest"},
    ],
}


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "eicu"
    folder.mkdir()
    for table, rows in ROWS.items():
        columns = COLUMNS[table].split()
        assert all(row.keys() <= set(columns) for row in rows)
        frame = pd.DataFrame(rows, columns=columns)
        frame.to_csv(folder / f"{table}.csv{'.gz' if table == 'lab' else ''}", index=False)
    return folder


def table(tmp_path, name):
    return pd.read_parquet(tmp_path / f"out/{name}.parquet")


def rows_of(frame):
    return [tuple(row) for row in frame.itertuples(index=False)]


def test_the_release_has_the_columns_that_are_read():
    for stem, types in FILES.items():
        assert set(types) <= set(COLUMNS[stem].split())


def test_inputs_are_what_was_recorded_until_the_index_time(release, tmp_path):
    summary = import_eicu(EicuSettings(release, tmp_path / "out", "in-hospital"))
    patients = table(tmp_path, "patients").set_index("patient_id")
    assert patients["label"].to_dict() == {1: "no", 2: "yes", 3: "yes"}
    assert patients["site"].to_dict() == {1: "hospital 73", 2: "hospital 73", 3: "hospital 110"}
    assert patients["person"].to_dict() == {1: "p1", 2: "p1", 3: "p2"}
    assert rows_of(table(tmp_path, "labs")) == [(1, 1.0, "Creatinine", 1.5), (1, 24.0, "Lactate", 2.0)]
    assert rows_of(table(tmp_path, "vitals")) == [
        (2, 1.5, "Mean blood pressure, cuff", 65.0),
        (3, 0.5, "Heart rate", 88.0),
        (3, 0.5, "Oxygen saturation", 97.0),
    ]
    assert rows_of(table(tmp_path, "diagnoses")) == [(2, "pulmonary|respiratory failure")]
    people = table(tmp_path, "person").set_index("patient_id")
    assert people["age"].tolist() == [90, 70, 70]
    assert people["gender"].tolist() == ["female", "female", None]
    left = dict(summary.left_out)
    assert left["stays that ended before the index time"] == 1
    assert left["stays whose end is not known"] == 1
    assert left["labs outside the bounds of their item"] == 1
    assert len(read_cohort(tmp_path / "out")) == 3


def test_days_in_the_unit(release, tmp_path):
    import_eicu(EicuSettings(release, tmp_path / "out", "length-of-stay"))
    patients = table(tmp_path, "patients")
    assert patients["time"].tolist() == pytest.approx([4.5, 2.0, 6.0])
    assert patients["event"].tolist() == ["left", "left", "died"]
    cohort = read_cohort(tmp_path / "out")
    assert cohort.schema.predicts.kind == "survival"
    assert cohort.label_N.tolist() == [1, 1, 0]


def test_the_first_stay_of_a_person_and_deaths_in_the_unit(release, tmp_path):
    import_eicu(EicuSettings(release, tmp_path / "out", "unit", hours=12, first=True))
    assert table(tmp_path, "patients")["patient_id"].tolist() == [1, 3, 4]
    assert table(tmp_path, "patients")["label"].tolist() == ["no", "yes", "no"]


def test_what_is_missing_is_named_together(release, tmp_path):
    (release / "diagnosis.csv").unlink()
    frame = pd.read_csv(release / "patient.csv").drop(columns=["uniquepid"])
    frame.to_csv(release / "patient.csv", index=False)
    with pytest.raises(UserError) as error:
        import_eicu(EicuSettings(release, tmp_path / "out", "unit"))
    assert "uniquepid" in str(error.value)
    assert "diagnosis.csv" in str(error.value)
    with pytest.raises(UserError, match="--hours 0"):
        import_eicu(EicuSettings(release, tmp_path / "out", "unit", hours=0))
    assert not (tmp_path / "out").exists()


def test_the_command(release, tmp_path):
    words = ["--eicu", str(release), "--label", "unit", "--out", str(tmp_path / "c")]
    done = CliRunner().invoke(app, ["data", "import", "eicu", *words])
    assert done.exit_code == 0, done.output
    assert "wrote 3 examples of 2 persons" in done.output
    assert "2 hospitals are the sites" in done.output
