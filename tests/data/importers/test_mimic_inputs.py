"""MIMIC-IV: notes, codes, items and units of the written cohort."""

import tomllib

import pandas as pd
import pytest

from remind.data.cohort.read import read_cohort
from remind.data.importers.mimic_items import ITEMS
from remind.data.importers.mimic_iv import import_mimic
from remind.data.importers.mimic_units import conversion, unit_name
from remind.errors import UserError
from tests.builders.cohorts import contents
from tests.builders.mimic import CREATININE, FAHRENHEIT, HEART_RATE, HOUR, LACTATE, START, draw
from tests.builders.mimic_cohorts import DAY, found, settings


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
