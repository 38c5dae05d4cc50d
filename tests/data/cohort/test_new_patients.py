"""Patients for a trained model are read in chunks, each patient with its problems."""

import pandas as pd
import pytest

from remind.data.cohort.cohort import concatenate
from remind.data.cohort.new_patients import open_cohort
from remind.data.cohort.read import read_cohort
from remind.errors import UserError
from tests.builders.cohorts import contents


@pytest.fixture
def schema(folder):
    """Of the small cohort, before a test spoils it; patient 4 has vitals alone, 3 a single one."""
    return read_cohort(folder.path).schema


def problems(folder, schema, size=8192) -> dict[str, str]:
    found = {}
    for chunk in open_cohort(folder.path, schema).chunks(size):
        found |= {str(chunk.cohort.patient_id_N[i]): text for i, text in chunk.problems.items()}
    return found


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_in_pieces_they_are_the_same_patients(folder, schema, size, kind):
    whole = read_cohort(folder.path)
    if kind == "parquet":
        for path in folder.path.glob("*.csv"):
            pd.read_csv(path, dtype={"pid": str}).to_parquet(path.with_suffix(".parquet"))
            path.unlink()
    parts = [chunk.cohort for chunk in open_cohort(folder.path, schema).chunks(size)]
    assert [len(part) for part in parts] == {1: [1] * 4, 2: [2, 2], 3: [3, 1]}[size]
    joined = concatenate(parts)
    assert joined.patient_id_N.tolist() == whole.patient_id_N.tolist()
    assert joined.site_N.tolist() == whole.site_N.tolist()
    assert joined.label_N.tolist() == whole.label_N.tolist()
    for name in schema.names:
        assert joined.modalities[name] == whole.modalities[name]


def test_a_line_of_a_csv_is_named_from_whatever_piece(folder, schema):
    folder.edit("vitals.csv", "003,6,Temp,36", "003,6,Temp,warm")
    for size in (1, 4):
        found = problems(folder, schema, size)
        assert list(found) == ["003"]
        assert "vitals.csv, line 6, column 'value', value 'warm': not a number" in found["003"]


def test_a_patient_twice_is_found_across_pieces(folder, schema):
    folder.edit("patients.csv", "004,0,b", "004,0,b\n001,no,a")
    for size in (1, 8):
        chunks = list(open_cohort(folder.path, schema).chunks(size))
        texts = [text for chunk in chunks for text in chunk.problems.values()]
        assert len(texts) == 2
        assert all("'001' occurs more than once" in text for text in texts)


def test_rows_of_strangers_are_passed_over_and_counted(folder, schema):
    folder.edit("clinical.csv", "001,50,f", "001,50,f\n777,1,f\n778,2,m")
    patients = open_cohort(folder.path, schema)
    assert sum(len(chunk.cohort) for chunk in patients.chunks(2)) == 4
    assert patients.remarks == ["clinical: 2 patients not in the patients file, whose rows are passed over: 777, 778"]


def test_a_patient_without_an_id_is_told_by_its_row(folder, schema):
    folder.edit("patients.csv", "002,yes,a", ",yes,a")
    folder.edit("clinical.csv", "002,,m\n", "")
    folder.edit("vitals.csv", "002,30,HR,81\n", "")
    assert problems(folder, schema) == {"": "patients.csv: row 2 has no patient id; fill it in"}


def test_labels_sites_and_splits_may_be_absent_or_unknown(folder, schema):
    folder.write("patients.csv", "pid\n001\n002\n003\n004\n")
    cohort = next(open_cohort(folder.path, schema).chunks()).cohort
    assert cohort.label_N.tolist() == [-1] * 4
    assert cohort.site_N is None
    folder.write("patients.csv", "pid,label,split\n001,perhaps,\n002,yes,\n003,,\n004,no,\n")
    assert next(open_cohort(folder.path, schema).chunks()).cohort.label_N.tolist() == [-1, 1, -1, 0]


def test_every_mistake_of_the_declaration_at_once(folder, schema):
    folder.edit("cohort.toml", '"no", "yes"', '"alive", "dead"')
    folder.edit("cohort.toml", "[modalities.vitals]\nkind", "[modalities.vitls]\nkind")
    with pytest.raises(UserError) as caught:
        open_cohort(folder.path, schema)
    text = str(caught.value)
    assert "classes alive, dead, and the model's are no, yes" in text
    assert "field 'modalities.vitls': the model knows no such modality; did you mean 'vitals'?" in text


def test_another_kind_items_and_horizon(folder, schema):
    folder.edit("cohort.toml", 'items = ["HR", "Temp"]', 'items = ["HR", "T"]')
    folder.edit("cohort.toml", "horizon = 48", "horizon = 24")
    with pytest.raises(
        UserError, match=r"items': is HR, T, and the model's is HR, Temp[\s\S]*horizon': is 24, and the model's is 48"
    ):
        open_cohort(folder.path, schema)


def test_levels_spelled_as_floats_survive_one_bad_cell(folder):
    folder.edit("cohort.toml", '["f", "m"]', "[1, 2]")
    folder.write("clinical.csv", "pid,age,sex\n001,50,1\n002,,2\n003,,\n")
    schema = read_cohort(folder.path).schema
    folder.write("clinical.csv", "pid,age,sex\n001,50,1.0\n002,,2.0\n003,,x\n")
    assert list(problems(folder, schema)) == ["003"]


def test_a_row_of_another_width_ends_before_anything_is_read(folder, schema):
    folder.edit("clinical.csv", "002,,m", "002,,m,1")
    with pytest.raises(UserError, match=r"clinical\.csv, line 3: cannot be read: 4 cells, where the header has 3"):
        open_cohort(folder.path, schema)


def test_long_rows_are_read_in_larger_blocks(folder, schema, monkeypatch):
    monkeypatch.setattr("remind.data.cohort.csv_file.STREAMED", 64)
    folder.write(
        "clinical.csv", "pid,age,sex\n" + "".join(f"00{i},5{i},f\n" for i in (1, 2)) + f'003,"{" " * 300}57",m\n'
    )
    chunks = list(open_cohort(folder.path, schema).chunks(1))
    ages = [float(contents(chunk.cohort, "clinical").values_NF[0, 0]) for chunk in chunks]
    assert ages[:3] == [51, 52, 57]
