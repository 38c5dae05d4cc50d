"""MIMIC-IV: what is missing, damaged or contradictory is named, and nothing is written."""

import gzip
from datetime import timedelta

import pytest

from remind.data.importers import release as release_module
from remind.data.importers.mimic_iv import import_mimic
from remind.errors import UserError
from tests.builders.mimic import COLUMNS, CREATININE, HOUR, START
from tests.builders.mimic_cohorts import DAY, settings


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
