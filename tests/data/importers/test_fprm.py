"""FPRM in the assumed layout: the written cohort, and all mistakes of the index at once."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.importers.fprm import FprmSettings, import_fprm
from remind.errors import UserError
from tests.builders.cohorts import declared

ROWS = """\
id,patient_id,grade,fundus,flow,oxygen,age,pulse,sex
001,p1,0,a.npy,v.npy,b.npy,50,70.5,f
002,p1,1,a.npy,,,,,
003,p2,10,,,,40,,m
004,p3,,a.npy,,,1,1,f
005,p4,2,,,,,,
"""


@pytest.fixture
def index(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    for name, shape in {"a": (8, 8, 3), "b": (8, 8, 3), "v": (4, 8, 8, 3)}.items():
        np.save(tmp_path / "data" / f"{name}.npy", np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    path = tmp_path / "index.csv"
    path.write_text(ROWS)
    return path


def settings(index, out="cohort", **options):
    return FprmSettings(index, index.parent / "data", index.parent / out, **options)


def test_rows_become_examples(index):
    summary = import_fprm(settings(index, categories=("sex",)))
    report = check_cohort(index.parent / "cohort")
    assert report.problems == ()
    cohort = read_cohort(index.parent / "cohort")
    assert cohort.schema.names == ("fundus", "flow", "oxygen", "table")
    assert cohort.schema.classes == ("0", "1", "2", "10")
    assert cohort.patient_id_N.tolist() == ["001", "002", "003"]
    assert cohort.person_N.tolist() == ["p1", "p1", "p2"]
    assert cohort.label_N.tolist() == [0, 1, 3]
    assert cohort.presence_Nm.astype(int).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert (summary.presence_Nm == cohort.presence_Nm).all()
    table: Any = pd.read_parquet(index.parent / "cohort" / "table.parquet").set_index("patient_id")
    assert table.loc["003"].isna().tolist() == [False, True, False]
    assert table.loc["001"].tolist() == [50, 70.5, "f"]
    declared = tomllib.loads((index.parent / "cohort" / "cohort.toml").read_text())["modalities"]
    assert declared["flow"] == {"kind": "video", "size": [16, 224, 224], "channels": 3, "resize": True}
    assert declared["table"]["categories"] == {"sex": ["f", "m"]}
    assert dict(summary.left_out) == {"rows without a label": 1, "rows with neither picture nor table": 1}
    assert "columns of the table (3): age, pulse, sex" in summary.to_text()
    assert "not checked against the real release" in (index.parent / "cohort" / "cohort.toml").read_text()


def test_columns_have_other_names(index):
    text = ROWS.replace("id,patient_id,grade,fundus,flow,oxygen", "eye,who,stage,photo,lsfg,sat", 1)
    index.write_text(text.replace("10,", "1,"))
    names = {"id": "eye", "person": "who", "label": "stage", "fundus": "photo", "flow": "lsfg", "oxygen": "sat"}
    import_fprm(settings(index, **names, exclude=("sex",), classes=("2", "1", "0")))
    cohort = read_cohort(index.parent / "cohort")
    assert cohort.schema.classes == ("2", "1", "0")
    assert cohort.label_N.tolist() == [2, 1, 1]
    assert declared(cohort, 3).columns == ("age", "pulse")


def test_without_a_table_and_with_an_absent_modality(index):
    index.write_text("id,patient_id,grade,fundus,flow,oxygen\n1,1,a,a.npy,,b.npy\n2,2,b,,,b.npy\n")
    import_fprm(settings(index))
    cohort = read_cohort(index.parent / "cohort")
    assert cohort.schema.names == ("fundus", "flow", "oxygen")
    assert cohort.presence_Nm.astype(int).tolist() == [[1, 0, 1], [0, 0, 1]]


def test_every_mistake_at_once(index):
    index.write_text(ROWS.replace("002,p1", "001,").replace("70.5", "high").replace("b.npy", "lost.npy"))
    with pytest.raises(UserError) as caught:
        import_fprm(settings(index, categories=("sex",), classes=("0", "1")))
    for part in (
        "index.csv, line 3, column 'id', value '001': stands in more than one row",
        "index.csv, line 3, column 'patient_id': empty",
        "index.csv, line 2, column 'pulse', value 'high': not a number; ",
        "--categories",
        "index.csv, line 2, column 'oxygen', value 'lost.npy': no such file in",
        "index.csv, line 4, column 'grade', value '10': not one of --classes (2 rows in all); use 0, 1",
    ):
        assert part in str(caught.value)
    assert not (index.parent / "cohort").exists()


def test_columns_that_are_not_there(index):
    with pytest.raises(UserError) as caught:
        import_fprm(settings(index, label="stage", exclude=("eye",), flow="fundus"))
    for part in (
        "column 'stage': no such column; say with --label",
        "column 'eye': no such column; say with --exclude",
        "column 'fundus': named by two options",
    ):
        assert part in str(caught.value)
    with pytest.raises(UserError, match=r"nowhere.csv: no such .csv or .parquet"):
        import_fprm(settings(index.parent / "nowhere.csv"))


def test_categories_must_be_features_with_values(index):
    with pytest.raises(UserError, match="column 'sex': named by two options"):
        import_fprm(settings(index, exclude=("sex",), categories=("sex",)))
    index.write_text(ROWS.replace(",f\n", ",\n").replace(",m\n", ",\n"))
    with pytest.raises(UserError, match="column 'sex': has no values; leave it out with --exclude"):
        import_fprm(settings(index, categories=("sex",)))


def test_one_grade_is_no_label(index):
    index.write_text("id,patient_id,grade,fundus,flow,oxygen\n1,1,a,a.npy,,b.npy\n")
    with pytest.raises(UserError, match="needs two classes or more"):
        import_fprm(settings(index))
