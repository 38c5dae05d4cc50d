"""Wrong inputs give one clear message; a mistake of one patient affects only that patient."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import remind
from remind.errors import UserError
from tests.builders.cohorts import cohort, schema
from tests.builders.predicting import train

TABLE: dict[str, Any] = {
    "patient_id": ["1", "2", "3"],
    "p": [0.1, 0.2, 0.3],
    "q": ["lo", "hi", "lo"],
    "r": [1.0, None, 2.0],
}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    results, _, _ = train(tmp_path_factory.mktemp("tiny"))
    return remind.load(results, "north", least=1)


def frame(**changes) -> pd.DataFrame:
    return pd.DataFrame(TABLE | changes)


def said(predictor, tables) -> str:
    with pytest.raises(UserError) as caught:
        predictor.predict(tables)
    return str(caught.value)


def test_an_extra_modality(predictor):
    assert "column 'aa': the model knows no such modality; did you mean 'a'?" in said(predictor, {"aa": frame()})


def test_an_unknown_column_and_the_one_it_was_meant_to_be(predictor):
    text = said(predictor, {"a": frame().rename(columns={"p": "p_"})})
    assert "column 'p': no such column; did you mean 'p_'?; the model was trained with it" in text
    assert "column 'p_': the model knows no such column; did you mean 'p'?" in text


def test_a_missing_column(predictor):
    text = said(predictor, {"a": frame().drop(columns="r")})
    assert "column 'r': no such column; the model was trained with it: add it" in text
    assert "no such column" in said(predictor, {"b": [{"patient_id": "1", "time": 1, "item": "u"}]})
    assert "column 'patient_id'" in said(predictor, {"a": frame().drop(columns="patient_id")})


def test_what_pandas_adds_to_a_table_is_no_unknown_column(predictor):
    assert (predictor.predict({"a": frame(**{"Unnamed: 0": [0, 1, 2]})})["status"] == "ok").all()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("p", "abc", "value 'abc': not a number"),
        ("p", "1,5", "value '1,5': not a number"),
        ("p", "2150-01-31", "a date or time, not a number"),
        ("p", 1e300, "infinite or too large"),
        ("q", "mid", "value 'mid': not a declared level; use lo, hi"),
    ],
)
def test_a_wrong_cell_is_said_of_its_patient(predictor, column, value, words):
    good = predictor.predict({"a": frame()})
    values = list(TABLE[column])
    values[1] = value
    found = predictor.predict({"a": frame(**{column: values})})
    assert found["status"].tolist()[::2] == ["ok", "ok"]
    assert f"a, row 2, column {column!r}" in found["status"][1]
    assert words in found["status"][1]
    assert found["p_c0"][1] != found["p_c0"][1], "no number"
    assert found["decision"][1] is None
    assert found["p_c0"][[0, 2]].tolist() == pytest.approx(good["p_c0"][[0, 2]].tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"time": 30, "item": "u", "value": 1}, "after the horizon of 24 hours"),
        ({"time": -1, "item": "u", "value": 1}, "negative time"),
        ({"time": 1, "item": "w", "value": 1}, "undeclared items: w"),
        ({"time": 1, "item": "u", "value": "high"}, "not a number"),
    ],
)
def test_a_wrong_observation_is_said_of_its_patient(predictor, row, words):
    good = {"patient_id": "x", "time": 1, "item": "u", "value": 2.0}
    found = predictor.predict({"b": [good, {"patient_id": "y", **row}]})
    assert found["status"][0] == "ok"
    assert words in found["status"][1]


def test_a_patient_twice_in_a_table(predictor):
    found = predictor.predict({"a": frame(patient_id=["1", "2", "2"])})
    assert found["status"][0] == "ok"
    assert "more than one row" in found["status"][1]


def test_an_empty_patient(predictor):
    found = predictor.predict({"a": frame(p=[0.1, None, 0.3], q=["lo", None, "lo"], r=[1.0, None, 2.0])})
    assert found["status"].tolist()[::2] == ["ok", "ok"]
    assert "has no modality" in found["status"][1]
    assert not found["trusted"][1]


def test_a_model_of_another_schema(predictor):
    with pytest.raises(UserError, match=r"another schema[\s\S]*modalities"):
        predictor.predict(cohort([1, 3], of=schema(("a", "b"))))


def test_a_value_far_outside_is_served_and_not_trusted(predictor):
    found = predictor.predict({"a": frame(p=[0.1, 500.0, 0.3])})
    assert (found["status"] == "ok").all()
    assert "a.p = 500 lies far outside" in found["reasons"][1]
    assert "another unit?" in found["reasons"][1]
    assert "far outside" not in found["reasons"][0]


def test_a_column_in_another_unit_is_suspected_as_a_whole(predictor):
    fresh = remind.Predictor(predictor.bundle, "north")
    fresh.predict({"a": pd.DataFrame({"patient_id": range(6), "p": [100.0] * 6, "q": "lo", "r": 1.0})})
    assert [text.partition(":")[0] for text in fresh.units.suspected()] == ["a.p"]
    assert "6 of 6 values" in fresh.units.suspected()[0]
    fresh = remind.Predictor(predictor.bundle, "north")
    fresh.predict({"a": pd.DataFrame({"patient_id": range(6), "p": [100.0, *[0.1] * 5], "q": "lo", "r": 1.0})})
    assert fresh.units.suspected() == [], "one value is one patient's"


def test_few_and_unseen_combinations_are_not_trusted(predictor):
    found = remind.Predictor(predictor.bundle, "north", least=1000).predict(
        {"a": frame(), "b": [{"patient_id": "9", "time": 1, "item": "u", "value": 1}]}
    )
    assert found["reasons"][0].startswith("few training patients")
    assert found["reasons"][3].startswith("unseen combination: no training patient had b")
    assert found["train_n"][3] == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "patients: a NoneType; give a cohort folder, or the tables by modality"),
        (5, "patients: a int; give a cohort folder"),
        ([1, 2], "patients: a list; give a cohort folder"),
        (frame(), "patients: a DataFrame; give a cohort folder, or the tables by modality, such as {'a': DataFrame}"),
        ({"a": 3}, "a: a int is no table of patients; give a DataFrame"),
        ({"a": "patients.csv"}, "a: a str is no table of patients"),
        ({"a": np.zeros((2, 3))}, "a: a ndarray is no table of patients"),
        ({"a": [1, 2]}, "a: a list is no table of patients"),
        ({"a": {"patient_id": ["1", "2"], "p": [0.1]}}, "a: is no table: All arrays must be of the same length"),
        ({3: frame()}, "column '3': the model knows no such modality"),
        ({"a": pd.concat([frame(), frame()[["p"]]], axis=1)}, "a, column 'p': two columns have this name"),
        ({"a": frame().rename(columns={"p": "P"})}, "column 'p': no such column; did you mean 'P'?"),
        ({"b": frame()}, "b, column 'time': no such column"),
        ({}, "has no patients; add rows"),
        ({"a": None}, "has no patients; add rows"),
        ("", "no such file; a cohort is a folder"),
    ],
)
def test_what_are_no_tables_of_patients(predictor, given, words):
    assert words in said(predictor, given)


def test_other_forms_of_the_same_table(predictor):
    """Columns by name, the id as index, Arrow, and a modality that is None, which nobody has."""
    expected = predictor.predict({"a": frame()})
    arrow = pa.table({name: pa.array(values) for name, values in TABLE.items()})
    for form in (TABLE, frame().set_index("patient_id"), arrow, frame().convert_dtypes()):
        found = predictor.predict({"a": form, "b": None})
        pd.testing.assert_frame_equal(found, expected)
    given = frame().set_axis(["patient_id", "p", "q", "r"], axis=1)
    predictor.predict({"a": given})
    assert list(given.columns) == list(TABLE), "the caller's own table stays as it is"


@pytest.mark.parametrize("value", ["5 mmol/L", "<0.1", "1,234.5", "0x10", "1_000", "n/m", [1], {"x": 1}, b"1", 1j])
def test_what_is_no_number_is_said_of_its_patient(predictor, value):
    found = predictor.predict({"a": frame(p=pd.Series([0.1, value, 0.3], dtype=object))})
    assert found["status"].tolist()[::2] == ["ok", "ok"]
    assert "a, row 2, column 'p'" in found["status"][1]
    assert "not a number" in found["status"][1]


def test_half_of_a_surrogate_pair_is_no_crash(predictor):
    found = predictor.predict({"a": frame(patient_id=["1", "\ud800", "3"], q=["lo", "lo", "\ud800"])})
    assert found["status"].tolist()[:2] == ["ok", "ok"]
    assert found["patient_id"][1] == "\\ud800"
    assert "not a declared level" in found["status"][2]


def test_rows_without_an_id_are_told(predictor):
    with pytest.warns(UserWarning, match="a: 1 row without a patient's id passed over"):
        found = predictor.predict({"a": frame(patient_id=["1", None, "3"])})
    assert found["patient_id"].tolist() == ["1", "3"]
