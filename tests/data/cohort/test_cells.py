"""Columns of any type are read correctly, or give one message. Codes and names are texts."""

import datetime
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from tests.builders.cohorts import contents, declared

IDS = [str(uuid.UUID(int=i + 1)) for i in range(20)]
RAW = [uuid.UUID(one).bytes for one in IDS]
WHEN = [datetime.datetime(2150, 1, i + 1, 10, 30) for i in range(20)]
ODD = {
    "uuid": (pa.array(RAW, pa.uuid()), IDS),
    "fixed bytes": (
        pa.array([f"p{i:03d}".encode() for i in range(20)], pa.binary(4)),
        [f"p{i:03d}" for i in range(20)],
    ),
    "bytes": (pa.array([f"p{i}".encode() for i in range(20)]), [f"p{i}" for i in range(20)]),
    "decimal": (pa.array([Decimal(i) for i in range(20)], pa.decimal128(10, 2)), [str(i) for i in range(20)]),
    "unsigned": (pa.array([2**63 + i for i in range(20)], pa.uint64()), [str(2**63 + i) for i in range(20)]),
    "float16": (pa.array(np.arange(20, dtype=np.float16)), [str(i) for i in range(20)]),
    "float": (pa.array(np.arange(20.0)), [str(i) for i in range(20)]),
    "date": (pa.array([w.date() for w in WHEN]), [str(w.date()) for w in WHEN]),
    "timestamp ns, zone": (
        pa.array(WHEN, pa.timestamp("ns", "UTC")),
        [f"{w:%Y-%m-%d %H:%M:%S}.000000000Z" for w in WHEN],
    ),
    "duration": (
        pa.array([datetime.timedelta(hours=i) for i in range(20)]),
        [str(i * 3600 * 10**6) for i in range(20)],
    ),
    "dictionary": (pa.array([f"p{i}" for i in range(20)]).dictionary_encode(), [f"p{i}" for i in range(20)]),
    "dictionary of integers": (pa.array(range(20)).dictionary_encode(), [str(i) for i in range(20)]),
    "string view": (pa.array([f"p{i}" for i in range(20)], pa.string_view()), [f"p{i}" for i in range(20)]),
    "large": (pa.array([f"p{i}" for i in range(20)], pa.large_string()), [f"p{i}" for i in range(20)]),
}


def cohort(folder, ids, **columns):
    """Twenty patients with a table in .parquet: ids of any type, and columns."""
    folder.mkdir(exist_ok=True)
    label = ["no", "yes"] * (len(ids) // 2)
    pd.DataFrame({"patient_id": ids, "label": label}).to_csv(folder / "patients.csv", index=False)
    pq.write_table(pa.table(columns), folder / "labs.parquet")
    toml = 'name = "c"\n[label]\nclasses = ["no", "yes"]\n[modalities.labs]\nkind = "table"\n'
    (folder / "cohort.toml").write_text(toml)
    return folder


@pytest.mark.parametrize("case", ODD)
def test_ids_of_every_type(case, tmp_path):
    column, texts = ODD[case]
    folder = cohort(tmp_path / "c", texts, patient_id=column, a=np.arange(20.0))
    assert read_cohort(folder).patient_id_N.tolist() == texts
    table = {"patient_id": column, "label": ["no", "yes"] * 10}
    (folder / "patients.csv").unlink()
    pq.write_table(pa.table(table), folder / "patients.parquet")
    assert read_cohort(folder).patient_id_N.tolist() == texts


NUMBERS = {
    "decimal": pa.array([Decimal(f"{i}.25") for i in range(20)]),
    "float16": pa.array(np.arange(20, dtype=np.float16)),
    "large integers": pa.array([2**60 + i for i in range(20)]),
    "unsigned": pa.array([2**63 + i for i in range(20)], pa.uint64()),
    "booleans": pa.array([i % 2 == 0 for i in range(20)]),
    "bytes": pa.array([str(i).encode() for i in range(20)]),
    "dictionary": pa.array([float(i) for i in range(20)]).dictionary_encode(),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([10, 20]), pa.array([1.0, 2.0])),
    "words for missing": pa.array(["NaN", "None", "<NA>", " n/a", "NA", "nat", *map(str, range(14))]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_every_type(case, tmp_path):
    if case == "runs":  # cannot be written to a .parquet
        from remind.data.cohort.tabular import Source

        assert Source("x", pa.table({"a": NUMBERS[case]}), []).numbers("a").tolist() == [1.0] * 10 + [2.0] * 10
        return
    cohort_ = cohort(
        tmp_path / "c", [f"p{i}" for i in range(20)], patient_id=[f"p{i}" for i in range(20)], a=NUMBERS[case]
    )
    (cohort_ / "cohort.toml").write_text(
        (cohort_ / "cohort.toml").read_text().replace("[label]", '[patients]\nempty = "drop"\n[label]')
    )
    values = contents(read_cohort(cohort_), "labs").values_NF[:, 0]
    assert np.isfinite(values).all()
    assert len(values) == (14 if case == "words for missing" else 20)


REFUSED = {
    "date": (pa.array([w.date() for w in WHEN]), "a date or time, not a number"),
    "timestamp": (pa.array(WHEN, pa.timestamp("ns", "Europe/Berlin")), "a date or time, not a number"),
    "time": (pa.array([w.time() for w in WHEN]), "a date or time, not a number"),
    "duration": (pa.array([datetime.timedelta(hours=i) for i in range(20)]), "a date or time, not a number"),
    "list": (pa.array([[1.0, 2.0]] * 20), "lists or records"),
    "struct": (pa.array([{"x": 1}] * 20), "lists or records"),
    "map": (pa.array([[("x", 1)]] * 20, pa.map_(pa.string(), pa.int64())), "lists or records"),
    "bytes that are no text": (pa.array([b"\xff\xfe"] * 20), "bytes that are no text"),
    "text of dates": (pa.array([str(w) for w in WHEN]), "a date or time, not a number"),
    "far away": (pa.array([2**62] * 20, pa.timestamp("us")), "a date or time, not a number"),
    "uuid": (pa.array(RAW, pa.uuid()), "not a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_number_is_one_message(case, tmp_path):
    column, words = REFUSED[case]
    ids = [f"p{i}" for i in range(20)]
    (problem,) = check_cohort(cohort(tmp_path / "c", ids, patient_id=ids, a=column, b=np.arange(20.0))).problems
    assert (problem.file, problem.column) == ("labs.parquet", "a")
    assert words in problem.what


def test_a_column_that_is_not_used_may_hold_anything(tmp_path):
    ids = [f"p{i}" for i in range(20)]
    folder = cohort(
        tmp_path / "c", ids, patient_id=ids, a=np.arange(20.0), raw=REFUSED["list"][0], when=REFUSED["date"][0]
    )
    toml = folder / "cohort.toml"
    toml.write_text(toml.read_text() + 'columns = ["a"]\n')
    assert check_cohort(folder).ok


MISSING = ["None", "<NA>", "n/a", "NaT", "nan", "NaN", "null", "NA", "#N/A", "none", "  "]
MISSING += [r"\N", "(null)", "[NULL]", ".", "-", "???", "N.A.", "#DIV/0!"]  # databases, SAS, people, Excel


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("kind", ["text", "codes", "image"])
def test_a_word_for_missing_is_no_note_no_code_and_no_path(kind, suffix, tmp_path):
    ids = [f"p{i:02d}" for i in range(40)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.linspace(0, 1, 40))
    column = {"text": "text", "codes": "code", "image": "path"}[kind]
    real = {"text": "fever", "codes": "I21", "image": "x.npy"}[kind]
    np.save(folder / "x.npy", np.zeros((224, 224, 3), np.uint8))
    table = pd.DataFrame({"patient_id": ids, column: [*MISSING, *[real] * (40 - len(MISSING))]})
    table.to_csv(folder / "m.csv", index=False) if suffix == "csv" else table.to_parquet(folder / "m.parquet")
    with (folder / "cohort.toml").open("a") as toml:
        toml.write(f'[modalities.m]\nkind = "{kind}"\n')
    report = check_cohort(folder)
    assert {row.name: row.patients for row in report.groups} == {"labs": len(MISSING), "labs+m": 40 - len(MISSING)}
    warning = next(w for w in report.warnings if w.startswith("m: ") and "counts as none" in w)
    assert all(repr(word) in warning for word in ("None", "NaT", "<NA>", "(null)", "???"))


@pytest.mark.parametrize("kind", ["text", "codes"])
def test_what_people_write_for_nothing_is_kept_and_warned_of(kind, tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.linspace(0, 1, 20))
    column = {"text": "text", "codes": "code"}[kind]
    pd.DataFrame({"patient_id": ids, column: ["Unknown", "I21"] * 10}).to_csv(folder / "m.csv", index=False)
    toml = folder / "cohort.toml"
    toml.write_text(toml.read_text() + f'[modalities.m]\nkind = "{kind}"\n')
    report = check_cohort(folder)
    assert [row.name for row in report.groups] == ["labs+m"]
    assert any(w.startswith("m: 10 rows hold 'Unknown', which counts as a ") for w in report.warnings)
    if kind == "codes":
        toml.write_text(toml.read_text() + 'vocabulary = ["Unknown", "I21"]\n')
        assert not any("'Unknown', which" in w for w in check_cohort(folder).warnings)


def test_a_declared_name_is_never_a_word_for_missing(tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.arange(20.0), smoker=["None", "former"] * 10)
    table = pd.DataFrame({"patient_id": ids, "time": 1, "item": ["NA", "K"] * 10, "value": 1.0})  # sodium
    table.to_csv(folder / "v.csv", index=False)
    toml = folder / "cohort.toml"
    text = toml.read_text() + 'categories = { smoker = ["None", "former"] }\n'
    text += '[modalities.v]\nkind = "series"\nitems = ["NA", "K"]\nhorizon = 48\n'
    toml.write_text(text)
    cohort_ = read_cohort(folder)
    assert contents(cohort_, "labs").values_NF[:, 1].tolist() == [0, 1] * 10
    assert contents(cohort_, "v").item_O.tolist() == [0, 1] * 10
    toml.write_text(text.replace('["None", "former"]', '["former", "current"]'))
    assert any("10 rows hold 'smoker': ('None')" in w for w in check_cohort(folder).warnings)


# Texts that differ stay apart: (section with both declared, column of the file).
APART = {
    "codes": ('kind = "codes"\nvocabulary = ["0030", "030", "250.00", "250.0", "250"]\n', "code"),
    "items": ('kind = "series"\nitems = ["0030", "030", "250.00", "250.0", "250"]\nhorizon = 9\n', "item"),
    "levels": (
        'kind = "table"\ncolumns = ["x"]\ncategories = { x = ["0030", "030", "250.00", "250.0", "250"] }\n',
        "x",
    ),
}


@pytest.mark.parametrize("kind", APART)
def test_texts_that_differ_stay_apart(kind, tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.arange(20.0))
    section, column = APART[kind]
    table = pd.DataFrame({"patient_id": ids, column: ["0030", "030", "250.00", "250.0"] * 5, "time": 1, "value": 1.0})
    table.to_csv(folder / "m.csv", index=False)
    toml = folder / "cohort.toml"
    before = toml.read_text()
    toml.write_text(f"{before}[modalities.m]\n{section}")
    data = contents(read_cohort(folder), "m")
    if kind == "codes":
        assert [data.names[i] for i in data.code_O[:4]] == ["0030", "030", "250.00", "250.0"]
    else:
        assert (data.item_O if kind == "items" else data.values_NF[:, 0]).tolist() == [0, 1, 2, 3] * 5
    fewer = section.replace(', "030"', "").replace(', "250.0"', "")
    toml.write_text(f"{before}[modalities.m]\n{fewer}")
    (problem,) = check_cohort(folder).problems
    assert problem.value == "030"
    assert "10 rows in all" in problem.what


def test_labels_splits_and_sites_are_texts(tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.arange(20.0))
    label, site, split = ["0030", "030"] * 10, ["5E1", "50", "001", "1"] * 5, ["01", "1"] * 10
    table = pd.DataFrame({"patient_id": ids, "label": label, "site": site, "split": split})
    table.to_csv(folder / "patients.csv", index=False)
    toml = folder / "cohort.toml"
    split_section = '[split]\ntrain = ["01"]\ntest = ["1"]\n'
    toml.write_text(toml.read_text().replace('["no", "yes"]\n', f'["030", "0030"]\n{split_section}'))
    cohort_ = read_cohort(folder)
    assert cohort_.label_N.tolist() == [1, 0] * 10
    assert cohort_.split_N.tolist() == [0, 2] * 10
    assert sorted(set(cohort_.site_N)) == ["001", "1", "50", "5E1"]


@pytest.mark.parametrize("cells", [[0, 1], [0.0, 1.0], ["0", "1"], ["0.0", "1"], [False, True], ["True", "False"]])
def test_numbers_have_one_spelling_whatever_the_type(cells, tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.arange(20.0), x=pa.array(cells * 10))
    toml = folder / "cohort.toml"
    declared = "[false, true]" if any(isinstance(c, bool) or c == "True" for c in cells) else "[0, 1]"
    toml.write_text(toml.read_text() + f"categories = {{ x = {declared} }}\n")
    assert sorted(set(contents(read_cohort(folder), "labs").values_NF[:, 1].tolist())) == [0, 1]


INDEX: dict[str, dict[str, Any]] = {
    "nameless": {"": range(20)},
    "unnamed": {"Unnamed: 0": range(20)},
    "index": {"index": range(20)},
    "shuffled": {"index": [7 * i % 20 for i in range(20)]},
    "level": {"level_0": range(20)},
    "R": {"...1": range(1, 21)},
    "written twice": {"Unnamed: 0": range(20), "Unnamed: 0.1": range(20)},
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("case", INDEX)
def test_the_number_of_the_row_is_no_feature(case, suffix, tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids)
    (folder / "labs.parquet").unlink()
    table = pd.DataFrame({**INDEX[case], "patient_id": ids, "a": np.linspace(0, 1, 20), "b": 0.5})
    table.to_csv(folder / "labs.csv", index=False) if suffix == "csv" else table.to_parquet(folder / "labs.parquet")
    report = check_cohort(folder)
    assert declared(report, 0).columns == ("a", "b")
    assert any("numbers of the rows" in w for w in report.warnings)


@pytest.mark.parametrize("start", [0, 1, 1000])
def test_a_column_that_counts_the_rows_is_warned_of_whatever_its_name(start, tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, mrn=range(start, start + 20), a=np.linspace(0, 1, 20))
    report = check_cohort(folder)
    assert declared(report, 0).columns == ("mrn", "a")
    assert any(w.startswith("labs: 'mrn' counts the rows of the file") for w in report.warnings)


def test_a_feature_called_index_stays(tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, index=np.linspace(20, 30, 20), a=np.arange(20.0))
    assert declared(check_cohort(folder), 0).columns == ("index", "a")


def test_ids_that_differ_by_leading_zeros_are_named(tmp_path):
    ids = [f"{i:04d}" for i in range(1, 21)]
    folder = cohort(tmp_path / "c", ids, patient_id=[str(i) for i in range(1, 21)], a=np.arange(20.0))
    (problem, *_) = check_cohort(folder).problems
    assert "'1' is not '0001' of the patients file, leading zeros differ (20 such ids)" in problem.remedy


NEAR: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "class": ({"label": ["No", "Yes"] * 10}, {}, "did you mean 'no'?"),
    "split": ({"label": ["no", "yes"] * 10, "split": ["Train", "test"] * 10}, {}, "did you mean 'train'?"),
    "level": ({"label": ["no", "yes"] * 10}, {"x": ["high", "Low"] * 10}, "did you mean 'low'?"),
}


@pytest.mark.parametrize("case", NEAR)
def test_a_name_that_is_nearly_declared_is_suggested(case, tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    patients, more, words = NEAR[case]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.arange(20.0), **more)
    pd.DataFrame({"patient_id": ids, **patients}).to_csv(folder / "patients.csv", index=False)
    if more:
        toml = folder / "cohort.toml"
        toml.write_text(toml.read_text() + 'categories = { x = ["high", "low"] }\n')
    assert any(problem.remedy.endswith(words) for problem in check_cohort(folder).problems)


@pytest.mark.parametrize("spelled", ["P-{:03d}", "p {:03d}", "p_{:03d}"])
def test_ids_that_differ_by_case_or_separators_are_named(spelled, tmp_path):
    ids = [f"p{i:03d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=[spelled.format(i) for i in range(20)], a=np.arange(20.0))
    (problem, *_) = check_cohort(folder).problems
    assert "is not 'p000' of the patients file, the way they are written differs (20 such ids)" in problem.remedy


def test_a_measurement_is_no_label(tmp_path):
    ids = [f"p{i:02d}" for i in range(20)]
    folder = cohort(tmp_path / "c", ids, patient_id=ids, a=np.arange(20.0))
    pd.DataFrame({"patient_id": ids, "label": np.linspace(3, 9, 20)}).to_csv(folder / "patients.csv", index=False)
    (problem,) = check_cohort(folder).problems
    assert "with label.classes only no, yes can be in it" in problem.remedy
