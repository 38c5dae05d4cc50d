"""MIMIC-IV: the written data agree with a slow implementation of the rules, and never contain the future."""

import gzip
import tomllib
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.importers import release as release_module
from remind.data.importers.mimic_items import ITEMS
from remind.data.importers.mimic_iv import import_mimic
from remind.data.importers.mimic_settings import MimicSettings
from remind.data.importers.mimic_units import conversion, unit_name
from remind.errors import UserError
from tests.builders.cohorts import contents
from tests.builders.mimic import COLUMNS, CREATININE, FAHRENHEIT, HEART_RATE, HOUR, LACTATE, START, UNITS, Release, draw
from tests.data.importers.mimic_oracle import expected

DAY = timedelta(days=1)


def settings(root, out="cohort", label="48h", **options):
    folders = {"hosp": root / "hosp", "icu": root / "icu", "note": root / "note", "out": root / out}
    return MimicSettings(**{**folders, "label": label, **options})


def found(folder):
    """What stands in the files of a cohort with series and codes, by stay."""
    patients = pd.read_parquet(folder / "patients.parquet")
    what: dict[Any, dict[str, Any]] = {
        row.patient_id: {
            "died": row.label == "died",
            "person": row.person,
            "labs": set(),
            "notes": set(),
            "codes": set(),
        }
        for row in patients.itertuples()
    }
    for row in rows(folder, "labs"):
        what[row.patient_id]["labs"].add((row.item, round(row.time, 3), round(row.value, 3)))
    for row in rows(folder, "notes"):
        what[row.patient_id]["notes"].add((row.text, round(row.hours_before, 3)))
    for row in rows(folder, "codes"):
        what[row.patient_id]["codes"].add(row.code)
    return what


def rows(folder, name):
    path = folder / f"{name}.parquet"
    return (
        pd.read_parquet(path).astype({"time": float, "value": float} if name == "labs" else {}).itertuples()
        if (path.exists())
        else ()
    )


def close(one, other):
    """Equal but for the rounding of float32."""
    assert one.keys() == other.keys()
    for stay, what in one.items():
        assert {k: v for k, v in what.items() if k != "labs"} == {k: v for k, v in other[stay].items() if k != "labs"}
        assert len(what["labs"]) == len(other[stay]["labs"])
        for mine, theirs in zip(sorted(what["labs"]), sorted(other[stay]["labs"]), strict=True):
            assert mine[0] == theirs[0]
            assert mine[1:] == pytest.approx(theirs[1:], abs=2e-3)


@pytest.fixture
def small() -> Release:
    """One person, one admission of ten days with a stay of five, on 1 March 2150 at eight."""
    release = Release()
    release.patient(1)
    release.admission(1, 10, START, START + 10 * DAY)
    release.stay(1, 10, 100, START, START + 5 * DAY)
    release.lab(1, CREATININE, START + HOUR, 1.5)
    return release


def label_of(release, tmp_path, label="48h", name="one"):
    root = release.write(tmp_path / name)
    import_mimic(settings(root, label=label))
    patients = pd.read_parquet(root / "cohort" / "patients.parquet")
    return dict(zip(patients.patient_id, patients.label, strict=True))


@pytest.mark.parametrize("block", [1 << 11, 1 << 25])
@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("48h", {}),
        ("in-hospital", {"notes": "history"}),
        ("one-year", {}),
        ("48h", {"notes": "discharge", "codes": "this", "allow_leakage": True}),
        ("one-year", {"notes": "history", "codes": "previous"}),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agrees_with_a_slow_reading_of_the_rules(tmp_path, monkeypatch, seed, label, options, block):
    monkeypatch.setattr(release_module, "BLOCK", block)
    release = draw(seed, 60)
    root = release.write(tmp_path, zipped=seed % 2 == 0)
    wanted = settings(root, label=label, **options)
    summary = import_mimic(wanted)
    truth = expected(release, label, wanted.notes_rule, wanted.codes_rule)
    assert len(truth) > 10
    assert {what["died"] for what in truth.values()} == {True, False}
    for modality in ("labs", "notes", "codes"):
        assert 2 < sum(bool(what[modality]) for what in truth.values()) < len(truth)
    close(found(root / "cohort"), truth)
    assert len(summary.label_N) == len(truth)
    assert summary.label_N.sum() == sum(what["died"] for what in truth.values())
    assert summary.persons == len({what["person"] for what in truth.values()})


@pytest.mark.parametrize("as_text", [False, True])
def test_the_cohort_reads_and_its_groups_are_those_of_the_summary(tmp_path, as_text):
    root = draw(5, 60).write(tmp_path)
    summary = import_mimic(settings(root, as_text=as_text, care_units=True))
    report = check_cohort(root / "cohort", alone=False)  # so few stays may all end well
    assert report.problems == ()
    cohort = read_cohort(root / "cohort")
    assert cohort.schema.names == ("notes", "labs", "codes")
    kinds = [modality.kind for modality in cohort.schema.modalities]
    assert kinds == (["text"] * 3 if as_text else ["text", "series", "codes"])
    assert (cohort.presence_Nm == summary.presence_Nm).all()
    assert (cohort.label_N == summary.label_N).all()
    assert set(cohort.site_N) == set(UNITS)
    assert len(set(cohort.person_N)) == summary.persons < len(cohort)


def test_nothing_of_the_future_is_seen(tmp_path):
    """Whatever is stored after the index time, or coded at the discharge, may be anything: the input stays the same."""
    release = draw(7, 60)
    import_mimic(settings(release.write(tmp_path / "a"), notes="history"))
    truth = found(tmp_path / "a" / "cohort")
    index = {row["stay_id"]: row["intime"] + 48 * HOUR for row in release.rows["icu/icustays"]}
    last = {}  # latest index time of each person
    for row in release.rows["icu/icustays"]:
        if row["stay_id"] in truth:
            last[row["subject_id"]] = max(last.get(row["subject_id"], START), index[row["stay_id"]])
    changed = 0
    for table in ("hosp/labevents", "icu/chartevents", "note/radiology", "note/discharge"):
        for row in release.rows[table]:
            known = row["storetime"] or row["charttime"]
            if row["subject_id"] in last and known > last[row["subject_id"]]:
                row["valuenum" if "events" in table else "text"] = 7 if "events" in table else "patient has died"
                changed += 1
    for row in release.rows["hosp/diagnoses_icd"]:
        admitted = {a["hadm_id"]: a["dischtime"] for a in release.rows["hosp/admissions"]}[row["hadm_id"]]
        if row["subject_id"] in last and admitted > last[row["subject_id"]]:
            row["icd_code"] = "R99"  # death
            changed += 1
    assert changed > 30
    import_mimic(settings(release.write(tmp_path / "b"), notes="history"))
    assert found(tmp_path / "b" / "cohort") == truth


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


def test_units_and_bounds(small, tmp_path):
    small.chart(1, 10, 100, FAHRENHEIT, START + HOUR, 98.6)
    small.chart(1, 10, 100, FAHRENHEIT, START + 2 * HOUR, 37.0)  # Celsius in the wrong place
    small.chart(1, 10, 100, HEART_RATE, START + HOUR, 0)
    small.chart(1, 10, 100, HEART_RATE, START + HOUR, None)
    root = small.write(tmp_path)
    summary = import_mimic(settings(root))
    assert found(root / "cohort")[100]["labs"] == {("Creatinine", 1, 1.5), ("Temperature", 1, 37)}
    assert dict(summary.left_out)["labs and vitals outside the bounds of their item"] == 2
    assert dict(summary.left_out)["labs and vitals without a number"] == 1


@pytest.mark.parametrize(
    "options", [{"notes": "discharge"}, {"codes": "this"}, {"codes": "all"}], ids=["notes", "this", "all"]
)
@pytest.mark.parametrize("label", ["48h", "in-hospital"])
def test_what_tells_the_outcome_is_refused_unless_asked_for(small, tmp_path, label, options):
    small.code(1, 10, 1, "I509", 10)
    root = small.write(tmp_path)
    with pytest.raises(UserError, match=r"written after the discharge.*--allow-leakage"):
        import_mimic(settings(root, label=label, **options))
    assert not (root / "cohort").exists()
    summary = import_mimic(settings(root, label=label, **options, allow_leakage=True))
    text = (root / "cohort" / "cohort.toml").read_text()
    assert f'name = "mimic-iv-{label}-leaky"' in text
    assert "LEAKS" in text
    assert "no predictions" in summary.to_text()


def test_codes_of_two_versions_stay_apart(small, tmp_path):
    small.admission(1, 9, START - 30 * DAY, START - 20 * DAY)
    for seq, (code, version) in enumerate([("E8490", 9), ("E8490", 10), ("0389", 9)], start=1):
        small.code(1, 9, seq, code, version)
    root = small.write(tmp_path)
    import_mimic(settings(root))
    assert found(root / "cohort")[100]["codes"] == {"09:E8490", "10:E8490", "09:0389"}
    declared = tomllib.loads((root / "cohort" / "cohort.toml").read_text())
    assert declared["modalities"]["codes"] == {"kind": "codes", "prefixes": [6]}


def test_as_text(small, tmp_path):
    small.admission(1, 9, START - 30 * DAY, START - 20 * DAY)
    small.admission(1, 8, START - 60 * DAY, START - 50 * DAY)
    small.code(1, 8, 1, "4280", 9)
    small.code(1, 9, 2, "Z999", 10)  # without a title
    small.code(1, 9, 1, "I509", 10)
    small.lab(1, CREATININE, START + 20 * HOUR, 1.25)
    small.lab(1, CREATININE, START + 30 * HOUR, 2)
    small.chart(1, 10, 100, HEART_RATE, START + 47.6 * HOUR, 88)
    root = small.write(tmp_path)
    import_mimic(settings(root, as_text=True))
    (labs,) = pd.read_parquet(root / "cohort" / "labs.parquet").text
    assert labs == "Heart rate: 88 bpm at 48 h. Creatinine: 2 mg/dL at 30 h. Creatinine: 1.25 mg/dL at 20 h."
    (codes,) = pd.read_parquet(root / "cohort" / "codes.parquet").text
    assert codes == 'Heart failure, unspecified. 10:Z999. Congestive heart failure, "unspecified".'


def test_newest_notes_come_first(small, tmp_path):
    small.note("radiology", 1, 10, START + HOUR, START + 2 * HOUR, "older")
    small.note("radiology", 1, 10, START + 3 * HOUR, START + 4 * HOUR, "newer")
    root = small.write(tmp_path)
    import_mimic(settings(root))
    notes = contents(read_cohort(root / "cohort"), "notes")
    assert notes.source_N.tolist() == ["newer\n\nolder"]


def test_without_icu_an_example_is_an_admission(small, tmp_path):
    root = small.write(tmp_path)
    summary = import_mimic(settings(root, icu=None, note=None))
    assert list(found(root / "cohort")) == [10]
    assert summary.modalities == ("labs", "codes")
    items = tomllib.loads((root / "cohort" / "cohort.toml").read_text())["modalities"]["labs"]["items"]
    assert "Creatinine" in items
    assert "Heart rate" not in items


def test_first_stay_of_each_person(tmp_path):
    release = draw(3, 60)
    root = release.write(tmp_path)
    import_mimic(settings(root, first=True))
    first = {}
    for row in sorted(release.rows["icu/icustays"], key=lambda row: row["intime"]):
        first.setdefault(row["subject_id"], row["stay_id"])
    kept = set(found(root / "cohort"))
    assert kept
    assert kept <= set(first.values())


def test_a_modality_that_nobody_has_is_declared_absent(small, tmp_path):
    root = small.write(tmp_path)
    import_mimic(settings(root))
    declared = tomllib.loads((root / "cohort" / "cohort.toml").read_text())["modalities"]
    assert declared["notes"] == {"kind": "text", "absent": True}
    assert not (root / "cohort" / "notes.parquet").exists()
    assert read_cohort(root / "cohort").presence_Nm.tolist() == [[False, True, False]]


def test_items_of_ones_own(small, tmp_path):
    small.lab(1, LACTATE, START + HOUR, 18.0)
    items = tmp_path / "items.csv"
    items.write_text(f"item,unit,table,itemid,low,high,factor\nLactate,mmol/L,labevents,{LACTATE},0,50,0.111\n")
    root = small.write(tmp_path)
    import_mimic(settings(root, items=items))
    assert found(root / "cohort")[100]["labs"] == {("Lactate", 1, 1.998)}
    items.write_text("item,unit,table,itemid\nNothing,x,labevents,12345\n")
    with pytest.raises(UserError, match=r"no item 12345 \(Nothing\)"):
        import_mimic(settings(root, "other", items=items))


def test_all_that_is_wrong_with_a_list_of_items_is_said_at_once(small, tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item,unit,table,itemid,low,high\n,x,labs,1.5,3,2\nA,x,labevents,7,?,\nB,x,labevents,7,,\n")
    with pytest.raises(UserError) as caught:
        import_mimic(settings(small.write(tmp_path), items=items))
    for part in (
        "items.csv, line 2, column 'item': empty",
        "column 'table', value 'labs'",
        "column 'itemid', value '1.5'",
        "line 2, column 'low', value '3': low is above high",
        "line 3, column 'low', value '?': not a number",
        "line 4, column 'itemid', value '7': stands in an earlier line too",
    ):
        assert part in str(caught.value)


def test_missing_files_and_columns_are_all_named(small, tmp_path, monkeypatch):
    monkeypatch.setitem(COLUMNS, "hosp/admissions", COLUMNS["hosp/admissions"].replace("deathtime ", ""))
    monkeypatch.setitem(COLUMNS, "icu/icustays", COLUMNS["icu/icustays"].replace("outtime", "out_time"))
    root = small.write(tmp_path)
    (root / "hosp" / "labevents.csv.gz").unlink()
    (root / "hosp" / "patients.csv").write_text("subject_id,dod\n1,\n")
    with pytest.raises(UserError) as caught:
        import_mimic(settings(root, note=tmp_path / "nowhere"))
    for part in (
        "admissions.csv.gz, column 'deathtime': no such column",
        "icustays.csv.gz, column 'outtime': no such column; did you mean 'out_time'?",
        "labevents.csv or labevents.csv.gz: no such file",
        "patients.csv or patients.csv.gz: both are in",
        "nowhere: no such folder; name the one that holds radiology",
    ):
        assert part in str(caught.value)
    assert not (root / "cohort").exists()


def test_a_file_that_breaks_off_leaves_nothing_behind(small, tmp_path):
    for i in range(3000):
        small.lab(1, CREATININE, START + i * timedelta(seconds=30), 1 + i % 7)
    root = small.write(tmp_path)
    path = root / "hosp" / "labevents.csv.gz"
    path.write_bytes(path.read_bytes()[:-500])
    before = sorted(p.name for p in root.iterdir())
    with pytest.raises(UserError, match=r"labevents.csv.gz: cannot be read: .*gzip -t"):
        import_mimic(settings(root))
    assert sorted(p.name for p in root.iterdir()) == before


def test_a_bad_cell_is_named_by_its_column(small, tmp_path):
    small.lab(1, CREATININE, "yesterday", 1)
    with pytest.raises(UserError, match=r"labevents.csv.gz: cannot be read: .*column 'charttime'.*yesterday"):
        import_mimic(settings(small.write(tmp_path)))


def test_an_old_cohort_is_never_touched(small, tmp_path):
    root = small.write(tmp_path)
    (root / "cohort").mkdir()
    (root / "cohort" / "precious").write_text("x")
    with pytest.raises(UserError, match="not a new or empty folder"):
        import_mimic(settings(root))
    assert (root / "cohort" / "precious").read_text() == "x"
    (root / "cohort" / "precious").unlink()
    import_mimic(settings(root))
    assert (root / "cohort" / "cohort.toml").is_file()


def test_no_stay_left(small, tmp_path):
    small.rows["icu/icustays"][0]["outtime"] = START + HOUR
    with pytest.raises(
        UserError, match=r"no stay is left to predict\n  - stays that ended before hour 48, the index time: 1"
    ):
        import_mimic(settings(small.write(tmp_path)))


def test_version_1_knows_no_deaths_outside_the_hospital(small, tmp_path):
    assert "before 2.0" in import_mimic(settings(small.write(tmp_path / "old"))).to_text()
    small.rows["hosp/patients"][0]["dod"] = (START + 90 * DAY).date()
    assert "before 2.0" not in import_mimic(settings(small.write(tmp_path / "new"))).to_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hours": 0.0}, "--hours 0"),
        ({"hours": float("nan")}, "--hours nan"),
        ({"note": None, "notes": "history"}, "--notes history without notes"),
        ({"icu": None, "care_units": True}, "--care-units without care units"),
    ],
)
def test_options_that_do_not_go_together(small, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        import_mimic(settings(small.write(tmp_path), **options))


def test_mixed_units_are_brought_to_the_unit_of_the_item(small, tmp_path):
    values = [(1.0, "mg/dL"), (1.1, None), (88.4, "umol/L"), (176.8, "\u00b5mol/L"), (1.2, " MG/DL ")]
    for hour, (value, unit) in enumerate(values, start=2):
        small.lab(1, CREATININE, START + hour * HOUR, value, unit=unit)
    for hour, (value, unit) in enumerate([(98.6, "\u00b0F"), (37.5, "\u00b0C"), (100.4, None)], start=1):
        small.chart(1, 10, 100, FAHRENHEIT, START + hour * HOUR, value, unit=unit)
    small.lab(1, LACTATE, START + HOUR, 18.0, unit="mg/dL")
    summary = import_mimic(settings(small.write(tmp_path)))
    assert {(item, time): round(value, 2) for item, time, value in found(tmp_path / "cohort")[100]["labs"]} == {
        ("Creatinine", 1): 1.5,  # which `small` has
        ("Creatinine", 2): 1.0,
        ("Creatinine", 3): 1.1,
        ("Creatinine", 4): 1.0,
        ("Creatinine", 5): 2.0,
        ("Creatinine", 6): 1.2,
        ("Temperature", 1): 37.0,
        ("Temperature", 2): 37.5,
        ("Temperature", 3): 38.0,
        ("Lactate", 1): 2.02,
    }
    assert "note: Creatinine: 2 values converted from umol/l to mg/dL" in summary.to_text()
    assert not (tmp_path / "cohort" / "labevents.waiting").exists()


@pytest.mark.parametrize("as_text", [False, True])
def test_of_units_that_nobody_knows_the_most_frequent_is_kept(as_text, small, tmp_path):
    for hour in range(1, 5):
        small.lab(1, CREATININE, START + hour * HOUR, 1.0, unit="mg%")
        small.chart(1, 10, 100, HEART_RATE, START + hour * HOUR, 80.0, unit="bpm")
    small.lab(1, CREATININE, START + 5 * HOUR, 7.0, unit="arb. units")
    small.chart(1, 10, 100, HEART_RATE, START + 5 * HOUR, 70.0, unit="Hz?")
    summary = import_mimic(settings(small.write(tmp_path), as_text=as_text)).to_text()
    assert "1  values of Creatinine in 'arb.units', which cannot be converted" in summary
    assert "1  values of Heart rate in 'hz?', which cannot be converted" in summary
    assert "Creatinine: 4 values in 'mg%', which is not known, taken for mg/dL" in summary
    if as_text:
        (text,) = pd.read_parquet(tmp_path / "cohort" / "labs.parquet")["text"]
        assert "Creatinine: 1" in text
        assert "Creatinine: 7" not in text
        assert "Heart rate: 70" not in text
    else:
        values = {(item, value) for item, _, value in found(tmp_path / "cohort")[100]["labs"]}
        assert values == {("Creatinine", 1.0), ("Creatinine", 1.5), ("Heart rate", 80.0)}


def test_conversions_agree_with_known_values():
    by_name = {item.name: item for item in ITEMS}
    known = [("Glucose", 5.55, "mmol/L", 100), ("Urea nitrogen", 10, "mmol/L", 28), ("Calcium", 2.5, "mmol/L", 10.02)]
    known += [("Magnesium", 2, "mEq/L", 2.43), ("Phosphate", 1, "mmol/L", 3.1), ("Bilirubin", 17.1, "umol/L", 1.0)]
    known += [("Hemoglobin", 140, "g/L", 14), ("Sodium", 140, "mEq/L", 140), ("PaO2", 10, "kPa", 75)]
    known += [
        ("White blood cells", 7000, "#/uL", 7),
        ("White blood cells", 7, "10^9/L", 7),
        ("Hematocrit", 0.4, "L/L", 40),
    ]
    known += [("Troponin T", 14, "ng/L", 0.014), ("PT", 12, "sec", 12), ("ALT", 30, "IU/L", 30)]
    for name, value, unit, expected_value in known:
        factor, shift = conversion(by_name[name], unit_name(unit))
        assert value * factor + shift == pytest.approx(expected_value, rel=0.01), name
    assert conversion(by_name["Creatinine"], unit_name("mmHg")) is None


@pytest.mark.parametrize("zipped", [True, False])
def test_a_quotation_mark_that_is_never_closed_stops_the_import(zipped, small, tmp_path, monkeypatch):
    monkeypatch.setattr(release_module, "BLOCK", 1 << 12)
    for i in range(300):
        small.note("radiology", 1, 10, START + HOUR, START + HOUR, f'note {i} of\n"two" lines')
    root = small.write(tmp_path, zipped)
    path = root / "note" / f"radiology.csv{'.gz' if zipped else ''}"
    text = (gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()).decode().splitlines(keepends=True)
    line = next(i for i, one in enumerate(text) if "note 100 of" in one)
    text[line + 1] = text[line + 1].replace('lines"', "lines")
    spoiled = "".join(text).encode()
    path.write_bytes(gzip.compress(spoiled) if zipped else spoiled)
    with pytest.raises(
        UserError, match=rf"radiology.*, line {line + 1}: text follows a closing quotation mark"
    ) as caught:
        import_mimic(settings(root))
    assert "note 1" not in str(caught.value)
    assert not (root / "cohort").exists()


def test_a_row_of_another_width_is_not_shown(small, tmp_path):
    small.lab(1, CREATININE, START + HOUR, "1,5")
    root = small.write(tmp_path, False)
    path = root / "hosp" / "labevents.csv"
    path.write_text(path.read_text().replace('"1,5"', "1,5"))
    with pytest.raises(UserError, match=r"labevents.csv: cannot be read: .*Expected 16 columns, got 18;") as caught:
        import_mimic(settings(root))
    assert "2150" not in str(caught.value)
