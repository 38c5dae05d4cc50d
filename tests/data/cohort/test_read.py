"""Reading a cohort: the result for correct files, and one message for each mistake."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remind import groups
from remind.config import Config
from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.sites.sites import number_of_sites
from remind.encoders import build_encoder, needs_fit
from remind.encoders.series import SeriesEncoder
from remind.errors import UserError
from tests.builders.cohorts import contents, declared


def message(folder):
    with pytest.raises(UserError) as caught:
        read_cohort(folder.path)
    return str(caught.value)


def test_good_files(folder):
    cohort = read_cohort(folder.path)
    assert cohort.patient_id_N.tolist() == ["001", "002", "003", "004"]
    assert cohort.person_N.tolist() == cohort.patient_id_N.tolist()
    assert cohort.label_N.tolist() == [0, 1, 1, 0]
    assert cohort.site_N.tolist() == ["a", "a", "b", "b"]
    assert cohort.split_N is None
    assert cohort.presence_Nm.tolist() == [[True, False], [True, True], [False, True], [False, True]]
    assert cohort.groups_N.tolist() == [1, 3, 2, 2]
    np.testing.assert_array_equal(contents(cohort, "clinical").values_NF[:2], [[50, 0], [np.nan, 1]])
    vitals = contents(cohort, "vitals")
    assert vitals.offsets_N1.tolist() == [0, 0, 1, 2, 4]
    np.testing.assert_array_equal(vitals.time_O, np.array([0.5, 0.1, 1, 1.5], np.float32))
    assert vitals.item_O.tolist() == [0, 1, 0, 1]
    assert vitals.value_O.tolist() == [81, 36, 70, 37.5]
    assert number_of_sites(folder.path) == 2


def test_no_torch_needed():
    modules = (
        "remind.data.cohort.read, remind.data.checks.check, remind.data.synthetic.generate, remind.data.sites.sites"
    )
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_declared_scales_of_a_series_are_those_of_its_encoder(folder):
    scales = 'standardise = "given"\nmean = { HR = 85, Temp = 37 }\nstd = { HR = 20, Temp = 0.5 }\n'
    folder.edit("cohort.toml", "horizon", scales + "horizon")
    cohort, config = read_cohort(folder.path), Config()
    vitals = cohort.schema.modalities[1]
    assert not needs_fit(vitals, config.model)
    encoder = build_encoder(vitals, config.model, 0)
    assert isinstance(encoder, SeriesEncoder)
    encoder.fit(contents(cohort, "vitals"))  # learns nothing
    assert encoder.mean_I.tolist() == [85, 37]
    assert encoder.std_I.tolist() == [20, 0.5]
    assert read_cohort(folder.path).schema == cohort.schema


def test_root_and_toml_elsewhere(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "small.toml"
    other.write_text((folder.path / "cohort.toml").read_text())
    assert read_cohort(other, root=str(folder.path)) == read_cohort(folder.path)
    other.write_text(f'root = "{folder.path}"\n' + other.read_text())
    assert read_cohort(other) == read_cohort(folder.path / "cohort.toml")


def test_row_order_of_modality_files_does_not_matter(folder):
    before = read_cohort(folder.path)
    for name in ("clinical.csv", "vitals.csv"):
        header, *rows = (folder.path / name).read_text().splitlines()
        folder.write(name, "\n".join([header, *reversed(rows)]) + "\n")
    assert read_cohort(folder.path) == before


def test_parquet_and_csv_read_the_same(folder):
    before = read_cohort(folder.path)
    (folder.path / "clinical.csv").unlink()
    table = {"pid": ["001", "002", "003"], "age": pa.array([50, None, None], pa.int16()), "sex": ["f", "m", None]}
    pq.write_table(pa.table(table), folder.path / "clinical.parquet")
    after = read_cohort(folder.path)
    assert after == before
    assert after.schema.fingerprint == before.schema.fingerprint


def test_numeric_ids_and_levels_have_one_spelling(folder):
    folder.write("patients.csv", "pid,label\n1,0.0\n2,1\n")
    folder.edit("cohort.toml", '["f", "m"]', "[0, 1.0]")
    for name in ("clinical", "vitals"):
        (folder.path / f"{name}.csv").unlink()
    pq.write_table(pa.table({"pid": [1.0, 2.0], "age": [1.5, 2], "sex": [0.0, 1.0]}), folder.path / "clinical.parquet")
    series = {"pid": pa.array([2], pa.int32()), "minute": [60], "item": ["HR"], "value": [1]}
    pq.write_table(pa.table(series), folder.path / "vitals.parquet")
    cohort = read_cohort(folder.path)
    assert cohort.label_N.tolist() == [0, 1]
    assert contents(cohort, "clinical").values_NF.tolist() == [[1.5, 0], [2, 1]]
    assert declared(cohort, 0).categories == {"sex": ("0", "1")}
    assert cohort.groups_N.tolist() == [1, 3]


def test_excel_leaves_a_byte_order_mark(folder):
    before = read_cohort(folder.path)
    folder.write("patients.csv", "\ufeff" + (folder.path / "patients.csv").read_text())
    assert read_cohort(folder.path) == before


# Each spoils one thing: (file, old text, new text, parts of the message).
SPOILED = {
    "unknown column": ("cohort.toml", '"age", "sex"', '"agee", "sex"', ["clinical.csv", "'agee'", "mean 'age'?"]),
    "label out of range": ("patients.csv", "003,1", "003,2", ["patients.csv, line 4", "'label'", "'2'", "no, yes"]),
    "unknown class": ("patients.csv", "002,yes", "002,maybe", ["line 3", "'maybe'", "not a class"]),
    "no label": ("patients.csv", "002,yes", "002,", ["line 3", "no label", 'missing = "drop"']),
    "duplicated patient": ("patients.csv", "003,", "002,", ["line 4", "'002'", "more than once"]),
    "empty id": ("patients.csv", "003,", ",", ["patients.csv, line 4", "'pid'", "empty"]),
    "two rows in a table": ("clinical.csv", "002,", "001,", ["clinical.csv, line 3", "'001'", "more than one row"]),
    "unknown patients": ("vitals.csv", "003,0,", "009,0,", ["vitals.csv, line 5", "1 patient ", "009"]),
    "text in a number": ("clinical.csv", "001,50", "001,<50", ["clinical.csv, line 2", "'age'", "'<50'", "number"]),
    "decimal comma": ("vitals.csv", "37.5", '"37,5"', ["vitals.csv, line 2", "'37,5'", "decimal point"]),
    "infinite": ("vitals.csv", "37.5", "inf", ["vitals.csv, line 2", "'inf'", "finite"]),
    "too large": ("vitals.csv", "37.5", "1e39", ["'1e39'", "too large"]),
    "negative time": ("vitals.csv", "004,90", "004,-1", ["vitals.csv, line 2", "'minute'", "'-1'", "negative"]),
    "no time": ("vitals.csv", "004,90", "004,", ["vitals.csv, line 2", "no time"]),
    "after the horizon": ("vitals.csv", "004,90", "004,2900", ["line 2", "'2900'", "48 hours", "clip = true"]),
    "unknown item": ("vitals.csv", "81", "81\n004,5,SpO2,99", ["line 4", "'SpO2'", "modalities.vitals.items"]),
    "no item": ("vitals.csv", "Temp,37.5", ",37.5", ["line 2", "no item"]),
    "undeclared level": ("clinical.csv", "50,f", "50,x", ["line 2", "'sex'", "'x'", "f, m"]),
    "unknown field": ("cohort.toml", "columns =", "colums =", ["modalities.clinical.colums", "mean 'columns'?"]),
    "unknown field at the top": (
        "cohort.toml",
        "name =",
        "names =",
        ["'names'", "mean 'name'?", "add a line like name"],
    ),
    "wrong type": ("cohort.toml", '["age", "sex"]', '"age"', ["modalities.clinical.columns", "list", "'age'"]),
    "number as text": (
        "cohort.toml",
        "horizon = 48",
        'horizon = "48"',
        ["modalities.vitals.horizon", "number", "'48'"],
    ),
    "unknown kind": (
        "cohort.toml",
        '"series"',
        '"serie"',
        ["modalities.vitals.kind", "'serie'", "table, series, image"],
    ),
    "no kind": ("cohort.toml", 'kind = "series"\n', "", ["modalities.vitals.kind", "table, series, image"]),
    "modality name": ("cohort.toml", "modalities.vitals", 'modalities."a+b"', ["a+b", "letters"]),
    "one class": ("cohort.toml", '["no", "yes"]', '["no"]', ["label.classes", "has 1 entries", "at least 2"]),
    "not TOML": ("cohort.toml", "[label]", "[label", ["cohort.toml", "not valid TOML", "line 6"]),
    "column twice": ("cohort.toml", '"age", "sex"', '"age", "age"', ["age more than once"]),
    "category of no column": ("cohort.toml", "{ sex", "{ sexx", ["categories", "'sexx'", "mean 'sex'?"]),
    "statistics not used": (
        "cohort.toml",
        "[modalities.v",
        "mean = { age = 1 }\nstd = { age = 1 }\n[modalities.v",
        ["given"],
    ),
    "scales of series not used": ("cohort.toml", "horizon", "mean = { HR = 1 }\nstd = { HR = 1 }\nhorizon", ["given"]),
    "scale of no item": (
        "cohort.toml",
        "horizon",
        'standardise = "given"\nmean = { HR = 1, Tmp = 1 }\nstd = { HR = 1, Tmp = 1 }\nhorizon',
        ["modalities.vitals.mean", "'Tmp'", "mean 'Temp'?", "without mean and std of Temp"],
    ),
    "scale without deviation": (
        "cohort.toml",
        "horizon",
        'standardise = "given"\nmean = { HR = 1 }\nhorizon',
        ["modalities.vitals", "different items", "HR"],
    ),
    "missing file": (
        "cohort.toml",
        "[modalities.v",
        'file = "clinic.csv"\n[modalities.v',
        ["no such file", "clinical.csv"],
    ),
    "wrong columns per line": ("clinical.csv", "001,50,f", "001,50", ["clinical.csv", "cannot be read", "3 columns"]),
    "semicolons": ("clinical.csv", "pid,age,sex\n001,50,f\n002,,m\n003,,", "pid;age;sex\n1;2;3", ["comma-separated"]),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_mistake_is_named(folder, case):
    file, old, new, parts = SPOILED[case]
    folder.edit(file, old, new)
    text = message(folder)
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("case", ["label out of range", "text in a number", "undeclared level", "duplicated patient"])
def test_one_mistake_is_one_line(folder, case):
    file, old, new, _ = SPOILED[case]
    folder.edit(file, old, new)
    lines = message(folder).splitlines()
    # A patient renamed to another's id is missed by the files that know the old one.
    assert len(lines) == 2 or case == "duplicated patient"


def test_missing_files(folder):
    (folder.path / "vitals.csv").unlink()
    assert "vitals.parquet or vitals.csv: no such file" in message(folder)
    (folder.path / "patients.csv").unlink()
    assert "patients.parquet or patients.csv: no such file" in message(folder)
    (folder.path / "cohort.toml").unlink()
    assert "cohort.toml: no such file" in message(folder)


def test_missing_root(folder):
    with pytest.raises(UserError, match="no such folder"):
        read_cohort(folder.path, root=str(folder.path / "nowhere"))


@pytest.mark.parametrize("text", ["", "\n", "pid,age,sex\n"])
def test_empty_file(folder, text):
    folder.write("clinical.csv", text)
    assert "clinical.csv: " in message(folder)


def test_not_a_parquet(folder):
    (folder.path / "clinical.csv").rename(folder.path / "clinical.parquet")
    assert "clinical.parquet: cannot be read" in message(folder)


def test_two_files_could_be_meant(folder):
    folder.write("clinical.parquet", "")
    assert "two files could be meant" in message(folder)


def test_everything_is_reported_at_once(folder):
    folder.edit("patients.csv", "002,yes", "002,maybe")
    folder.edit("clinical.csv", "001,50", "001,x")
    folder.edit("vitals.csv", "004,90", "004,-90")
    text = message(folder)
    assert len(text.splitlines()) == 4
    assert all(part in text for part in ("'maybe'", "'x'", "'-90'"))


def test_patient_with_nothing(folder):
    folder.edit("patients.csv", "004,0,b\n", "004,0,b\n005,0,b\n")
    assert "patients.csv: 1 patient has no modality at all: 005" in message(folder)
    folder.edit("cohort.toml", 'id = "pid"', 'id = "pid"\nempty = "drop"')
    assert len(read_cohort(folder.path)) == 4
    assert any("1 patient without any modality" in w for w in check_cohort(folder.path).warnings)


def test_patient_without_label_dropped(folder):
    folder.edit("patients.csv", "002,yes", "002,")
    folder.edit("cohort.toml", "[label]", '[label]\nmissing = "drop"')
    cohort = read_cohort(folder.path)
    assert cohort.patient_id_N.tolist() == ["001", "003", "004"]
    assert contents(cohort, "vitals").offsets_N1.tolist() == [0, 0, 1, 3]
    assert cohort.unlabelled is not None, "what learns without labels has them"
    assert cohort.unlabelled.patient_id_N.tolist() == ["002"]
    assert cohort.take([0]).unlabelled is None


def test_horizon_clips_where_asked(folder):
    folder.edit("cohort.toml", "horizon = 48", "horizon = 1\nclip = true")
    assert contents(read_cohort(folder.path), "vitals").value_O.tolist() == [81, 36, 70]


def test_undeclared_items_and_horizon_are_taken_from_the_file(folder):
    folder.edit("cohort.toml", 'items = ["HR", "Temp"]\nhorizon = 48\n', "")
    schema = declared(read_cohort(folder.path), 1)
    assert (schema.items, schema.horizon_hours) == (("HR", "Temp"), 1.5)
    assert any("items and horizon not declared" in w for w in check_cohort(folder.path).warnings)


def test_excluded_items_and_columns(folder):
    folder.edit("cohort.toml", 'items = ["HR", "Temp"]', 'exclude = ["Temp"]')
    folder.edit("cohort.toml", 'columns = ["age", "sex"]', 'exclude = ["age"]')
    folder.edit("cohort.toml", 'id = "pid"', 'id = "pid"\nempty = "drop"')
    cohort = read_cohort(folder.path)
    assert declared(cohort, 0).columns == ("sex",)
    assert declared(cohort, 1).items == ("HR",)
    assert cohort.patient_id_N.tolist() == ["001", "002", "004"]  # 003 had nothing but a temperature


def test_absent_modality_keeps_the_schema(folder):
    before = read_cohort(folder.path).schema
    folder.edit("cohort.toml", 'kind = "table"', 'kind = "table"\nabsent = true')
    folder.edit("cohort.toml", 'id = "pid"', 'id = "pid"\nempty = "drop"')
    cohort = read_cohort(folder.path)
    assert cohort.schema.fingerprint == before.fingerprint
    assert cohort.groups_N.tolist() == [2, 2, 2]


def test_given_split(folder):
    folder.write("patients.csv", "pid,label,fold\n001,no,0\n002,yes,1\n003,1,2.0\n004,0,0\n")
    folder.edit(
        "cohort.toml", "[label]", '[split]\ncolumn = "fold"\ntrain = [0]\nvalidation = [1]\ntest = [2]\n[label]'
    )
    assert read_cohort(folder.path).split_N.tolist() == [0, 1, 2, 0]
    folder.edit("cohort.toml", "test = [2]", "test = [3]")
    assert "not a split" in message(folder)


def test_given_split_may_not_divide_a_person(folder):
    folder.write("patients.csv", "pid,who,label,split\n001,A,0,train\n002,A,1,test\n003,B,1,train\n004,C,0,val\n")
    folder.edit("cohort.toml", 'id = "pid"', 'id = "pid"\npatient = "who"')
    assert "divides 1 person: A" in message(folder)
    folder.edit("patients.csv", "1,test", "1,train")
    cohort = read_cohort(folder.path)
    assert cohort.person_N.tolist() == ["A", "A", "B", "C"]
    assert cohort.split_N.tolist() == [0, 0, 0, 1]


def test_report(folder):
    report = check_cohort(folder.path)
    assert report.ok
    assert [(row.name, row.patients, row.classes, row.sites) for row in report.groups] == [
        ("vitals", 2, (1, 1), (0, 2)),
        ("clinical", 1, (1, 0), (1, 0)),
        ("clinical+vitals", 1, (0, 1), (1, 0)),
    ]
    assert "no problems found" in report.to_text()
    assert '"ok": true' in report.to_json()


def test_a_site_with_one_class_is_a_warning(folder):
    folder.edit("patients.csv", "004,0", "004,1")
    report = check_cohort(folder.path)
    assert report.ok
    assert any("site 'b' has patients of only one class (yes)" in w for w in report.warnings)
    assert "warning: site 'b'" in report.to_text()


def test_report_of_a_spoiled_cohort_says_what_read_says(folder):
    folder.edit("clinical.csv", "001,50", "001,x")
    report = check_cohort(folder.path)
    assert not report.ok
    assert [str(p) for p in report.problems] == [line[4:] for line in message(folder).splitlines()[1:]]
    problem = report.problems[0].to_dict()
    assert (problem["file"], problem["row"], problem["column"], problem["value"]) == ("clinical.csv", 2, "age", "x")
    assert str(report.problems[0]) in report.to_text()


def test_take_and_without(folder):
    cohort = read_cohort(folder.path)
    picked = cohort.take([3, 1, 3])
    assert contents(picked, "vitals").value_O.tolist() == [70, 37.5, 81, 70, 37.5]
    assert contents(picked, "vitals").offsets_N1.tolist() == [0, 2, 3, 5]
    assert cohort.take(np.array([False, True, False, True])) == cohort.take([1, 3])
    assert cohort.without("vitals").groups_N.tolist() == [1, 1, 0, 0]
    partly = cohort.without("vitals", where_N=cohort.site_N == "b")
    assert partly.groups_N.tolist() == [1, 3, 0, 0]
    assert contents(partly, "vitals").value_O.tolist() == [81]
    assert groups.counts(cohort.groups_N) == {1: 1, 2: 2, 3: 1}


@pytest.mark.parametrize("name", ["patients.csv", "clinical.csv", "x.parquet"])
def test_a_data_file_in_place_of_the_cohort(folder, name):
    (folder.path / "x.parquet").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(UserError, match=f"{name}: is not a cohort.toml; give the cohort's folder"):
        read_cohort(folder.path / name)
