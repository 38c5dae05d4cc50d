"""Texts that can be read and were probably not meant: said, and read as they are written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from remind.data.checks.check import check_cohort
from remind.data.cohort.suspicious_texts import is_damaged, is_list, normalised

WHO = [f"p{i:03d}" for i in range(40)]
TOML = 'name = "c"\n[label]\nclasses = ["no", "yes"]\n'
CODES = '[modalities.dx]\nkind = "codes"\n'
SERIES = '[modalities.v]\nkind = "series"\nhorizon = 48\n'
NOTES = '[modalities.notes]\nkind = "text"\n'


def cohort(folder: Path, toml: str, **tables: pd.DataFrame) -> Path:
    """Forty patients of two sites."""
    patients = pd.DataFrame({"patient_id": WHO, "label": ["no", "yes"] * 20, "site": ["a"] * 20 + ["b"] * 20})
    for name, table in {"patients": patients, **tables}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "cohort.toml").write_text(TOML + toml)
    return folder


def column(name: str, *cells: str) -> pd.DataFrame:
    """A row per patient, with these cells in turn."""
    return pd.DataFrame({"patient_id": WHO, name: np.resize(np.array(cells, dtype=object), len(WHO))})


def warned(folder: Path) -> str:
    report = check_cohort(folder)
    assert report.ok, report.problems
    return "\n".join(report.warnings)


@pytest.mark.parametrize("cell", ["A1;B2", "I21.4, E11", "A1|B2|C3", "['I21.4', 'E11']", "{250.00,401.9}", '["E11"]'])
def test_several_codes_in_one_cell_are_said(cell, tmp_path):
    said = warned(cohort(tmp_path, CODES, dx=column("code", cell, "J18.9", "K35")))
    assert "dx: 14 rows seem to hold several codes in one cell" in said
    assert "write one row per code" in said


@pytest.mark.parametrize(
    "cell", ["I21.4", "(I21.4", "insulin, human", "0-4;", "a;b", "amoxicillin|clavulanic acid 500"]
)
def test_one_code_is_no_list(cell):
    assert not is_list(cell)


def test_a_declared_code_is_meant(tmp_path):
    toml = CODES + 'vocabulary = ["A1;B2", "J18.9", "j18.9"]\n'
    said = warned(cohort(tmp_path, toml, dx=column("code", "A1;B2", "J18.9", "j18.9")))
    assert "several" not in said


@pytest.mark.parametrize("other", ["E119", "e11.9", "E11.9.", "E 11.9", "\uff2511.9"])
def test_two_spellings_of_a_code_are_said(other, tmp_path):
    said = warned(cohort(tmp_path, CODES, dx=column("code", "E11.9", other, "K35")))
    assert "dx: 1 code has several spellings" in said
    assert "which count as different codes" in said


def test_zeros_are_part_of_a_code():
    assert normalised("0030") != normalised("030")


def test_two_spellings_of_items_and_sites_are_said(tmp_path):
    series = column("item", "HR", "hr", "Temp").assign(time=1.0, value=np.arange(40.0))
    folder = cohort(tmp_path, SERIES, v=series)
    patients = pd.read_csv(folder / "patients.csv")
    patients["site"] = ["North", "north", "South", "South"] * 10
    patients.to_csv(folder / "patients.csv", index=False)
    said = warned(folder)
    assert "v: 1 item has several spellings ('HR', 'hr')" in said
    assert "patients: 1 site has several spellings ('North', 'north')" in said


@pytest.mark.parametrize("text", ["MÃ¼ller has fever", "M\ufffdller has fever", "â€œfeverâ€\x9d", "Â°C 39"])
def test_damaged_letters_are_said(text, tmp_path):
    said = warned(cohort(tmp_path, NOTES, notes=column("text", text, "no fever")))
    assert "notes: 20 notes with characters that another program has damaged" in said
    assert "patient p000, p002, p004, p006, p008 and 15 more" in said


def test_damaged_letters_in_a_file_are_said(tmp_path):
    (tmp_path / "a.txt").write_text("MÃ¼ller has fever", encoding="utf-8")
    (tmp_path / "b.txt").write_text("Müller has fever", encoding="utf-8")
    toml = NOTES + 'path = "path"\n'
    assert "notes: 20 notes with characters" in warned(cohort(tmp_path, toml, notes=column("path", "a.txt", "b.txt")))


@pytest.mark.parametrize("text", ["Müller, Ångström, São Paulo", "ÃO", "â€", "37 °C", "Â"])
def test_letters_of_other_languages_are_not_damaged(text):
    assert is_damaged(text) == (text == "â€")


def test_an_id_of_other_unicode_characters_is_shown_as_such(tmp_path):
    folder = cohort(tmp_path, CODES, dx=column("code", "A1"))
    for name, form in (("patients", "p\u00f6005"), ("dx", "po\u0308005")):
        path = folder / f"{name}.csv"
        path.write_text(path.read_text().replace("p005", form))
    (problem,) = check_cohort(folder).problems
    assert r"'po\u0308005' is not 'p\xf6005' of the patients file" in str(problem)
    assert "the same letters of other Unicode characters" in str(problem)


@pytest.mark.parametrize(("kind", "first"), [("float64", 2**53), ("float32", 2**24)])
def test_ids_that_a_float_cannot_hold_are_a_problem(kind, first, tmp_path):
    folder = cohort(tmp_path, CODES, dx=column("code", "A1"))
    (folder / "dx.csv").unlink()
    ids = np.array([first + 2 * i for i in range(40)])
    patients = pd.read_csv(folder / "patients.csv").assign(patient_id=ids)
    patients.to_csv(folder / "patients.csv", index=False)
    codes = pd.DataFrame({"patient_id": ids.astype(kind), "code": "A1"})
    codes.to_parquet(folder / "dx.parquet")
    (problem,) = check_cohort(folder).problems
    assert "a number too large for a column of floats: its last digits are lost (40 rows in all)" in str(problem)
    codes.assign(patient_id=ids).to_parquet(folder / "dx.parquet")
    assert check_cohort(folder).ok


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_of_parts_is_called_one(named, tmp_path):
    folder = cohort(tmp_path, CODES + 'file = "dx.parquet"\n' * named, dx=column("code", "A1"))
    (folder / "dx.csv").unlink()
    (folder / "dx.parquet").mkdir()
    column("code", "A1").to_parquet(folder / "dx.parquet" / "part-0.parquet")
    (problem,) = check_cohort(folder).problems
    assert str(problem).startswith("dx.parquet: is a folder of parts")
    assert "write one file" in str(problem)
