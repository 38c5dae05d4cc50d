"""Features that nearly decide the label are named; good features that do not are not."""

import numpy as np
import pandas as pd
import pytest

from remind.config import SyntheticConfig
from remind.data.checks import leaks as module
from remind.data.checks.check import check_cohort
from remind.data.checks.leaks import MOST_PATIENTS, leaks
from remind.data.cohort.cohort import concatenate
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort

N = 60


def cohort(folder, label, classes, toml, **tables):
    folder.mkdir(exist_ok=True)
    ids = [f"p{i:03d}" for i in range(len(label))]
    pd.DataFrame({"patient_id": ids, "label": label}).to_csv(folder / "patients.csv", index=False)
    for name, columns in tables.items():
        table = pd.DataFrame(columns)
        table.insert(0, "patient_id", [ids[i] for i in table.pop("row")] if "row" in table else ids)
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "cohort.toml").write_text(f'name = "c"\n[label]\nclasses = {classes}\n{toml}')
    return folder


def warnings(folder):
    return [w for w in check_cohort(folder).warnings if "decides the label" in w]


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(N, 2))


DIED = np.arange(N) % 3 == 0
LABEL = np.where(DIED, "died", "alive")
TABLE = '[modalities.labs]\nkind = "table"\n'
CATEGORIES = 'categories = { died = ["n", "y"] }\n'
LEAKY = {
    "a number": (DIED.astype(int), "", "'died' (AUROC 1.000)"),
    "reversed": (5.0 - DIED, "", "'died'"),
    "a level": (np.where(DIED, "y", "n"), CATEGORIES, "'died' (AUROC 1.000)"),
    "with gaps": (np.where(np.arange(N) % 4 == 0, np.nan, DIED), "", "'died'"),
    "known of those who died": (np.where(DIED, 1.5, np.nan), "", "whether 'died' is known"),
}


@pytest.mark.parametrize("case", LEAKY)
def test_a_column_that_tells_the_label(case, noise, tmp_path):
    values, more, words = LEAKY[case]
    table = {"died": values, "a": noise[:, 0], "b": noise[:, 1]}
    toml = f'{TABLE}columns = ["died", "a", "b"]\n{more}'
    (warning,) = warnings(cohort(tmp_path / "c", LABEL, '["alive", "died"]', toml, labs=table))
    assert warning.startswith("labs: ")
    assert words in warning
    assert "'a'" not in warning
    assert "'b'" not in warning


def test_each_class_of_several_against_the_rest(noise, tmp_path):
    grade = np.arange(N) % 3
    permuted = np.array([1, 2, 0])[grade]  # no order of the numbers tells the middle class
    table = {"grade": permuted, "a": noise[:, 0]}
    toml = TABLE + 'columns = ["grade", "a"]\n'
    (warning,) = warnings(cohort(tmp_path / "c", grade, '["g0", "g1", "g2"]', toml, labs=table))
    assert "'grade' (AUROC 1.000)" in warning


def test_items_and_codes(noise, tmp_path):
    rows = np.flatnonzero(DIED)
    everyone = np.arange(N)
    series = pd.DataFrame({"row": [*everyone, *rows, *everyone], "time": 1.0})
    series["item"] = ["HR"] * N + ["pronounced"] * len(rows) + ["GCS"] * N
    series["value"] = [*noise[:, 0], *np.ones(len(rows)), *np.where(DIED, 3, 15)]
    codes = pd.DataFrame({"row": [*everyone, *rows], "code": [f"I{i % 7}" for i in everyone] + ["R99"] * len(rows)})
    toml = '[modalities.v]\nkind = "series"\nitems = ["HR", "pronounced", "GCS"]\nhorizon = 9\n'
    toml += '[modalities.dx]\nkind = "codes"\n'
    first, second = warnings(cohort(tmp_path / "c", LABEL, '["alive", "died"]', toml, v=series, dx=codes))
    assert "whether 'pronounced' was measured" in first
    assert "'GCS' (AUROC 1.000)" in first
    assert "'HR'" not in first
    assert "whether a patient has 'R99'" in second
    assert "I3" not in second


def test_how_often_something_was_measured(noise, tmp_path):
    everyone = np.repeat(np.arange(N), np.where(DIED, 2, 9))
    series = {"row": everyone, "time": 1.0, "item": "HR", "value": np.random.default_rng(1).normal(size=len(everyone))}
    codes = {"row": everyone, "code": [f"I{i}" for i in np.random.default_rng(2).permutation(len(everyone))]}
    toml = '[modalities.v]\nkind = "series"\nitems = ["HR"]\nhorizon = 9\n[modalities.dx]\nkind = "codes"\n'
    first, second = warnings(cohort(tmp_path / "c", LABEL, '["alive", "died"]', toml, v=series, dx=codes))
    assert first.startswith("v: how often 'HR' was measured (AUROC 1.000)")
    assert second.startswith("dx: how many codes a patient has (AUROC 1.000)")


def test_words_of_notes(tmp_path):
    texts = [f"Admitted with pain {i}. {'EXPIRED' if died else 'Discharged home'}." for i, died in enumerate(DIED)]
    toml = '[modalities.notes]\nkind = "text"\n'
    (warning,) = warnings(cohort(tmp_path / "c", LABEL, '["alive", "died"]', toml, notes={"text": texts}))
    assert "whether the note contains 'expired' (AUROC 1.000)" in warning
    assert "pain" not in warning


def test_the_length_of_notes(tmp_path):
    texts = [" ".join(["seen"] * ((4 if died else 40) + i % 3)) for i, died in enumerate(DIED)]
    toml = '[modalities.notes]\nkind = "text"\n'
    (warning,) = warnings(cohort(tmp_path / "c", LABEL, '["alive", "died"]', toml, notes={"text": texts}))
    assert warning.startswith("notes: how many words a note has (AUROC 1.000)")


def test_a_modality_that_only_one_class_has(noise, tmp_path):
    rows = np.flatnonzero(DIED)
    toml = TABLE + 'columns = ["a"]\n[modalities.notes]\nkind = "text"\n'
    notes = {"row": rows, "text": ["found dead"] * len(rows)}
    (warning,) = warnings(
        cohort(tmp_path / "c", LABEL, '["alive", "died"]', toml, labs={"a": noise[:, 0]}, notes=notes)
    )
    assert warning.startswith("notes: whether a patient has it (AUROC 1.000)")


def test_a_good_feature_and_a_few_patients_are_no_leak(noise, tmp_path):
    good = DIED + 0.5 * noise[:, 0]  # AUROC .92
    toml = TABLE + 'columns = ["good"]\n'
    assert warnings(cohort(tmp_path / "c", LABEL, '["alive", "died"]', toml, labs={"good": good})) == []
    few = np.arange(8)
    many = {f"x{i}": np.random.default_rng(i).permutation(few) for i in range(100)}  # some separate 4 from 4 by chance
    toml = TABLE + f"columns = {list(many)}\n".replace("'", '"')
    assert warnings(cohort(tmp_path / "d", LABEL[few], '["alive", "died"]', toml, labs=many)) == []


def test_synthetic_cohorts_do_not_leak():
    kinds = "table, series, codes, text"
    assert (
        leaks(
            [generate(SyntheticConfig(patients=400, law="independent", missing="0.2, 0.2, 0.2, 0.2", kinds=kinds), 0)]
        )
        == []
    )


def test_large_cohorts_are_sampled(monkeypatch):
    looked_at = []
    monkeypatch.setattr(module, "concatenate", lambda cohorts: looked_at.append(concatenate(cohorts)) or looked_at[0])
    cohort_ = generate(SyntheticConfig(patients=6 * MOST_PATIENTS, law="independent", missing="0.1", kinds="table"), 0)
    assert leaks([cohort_, cohort_]) == []
    assert 0.9 * MOST_PATIENTS < len(looked_at[0]) <= MOST_PATIENTS


@pytest.mark.parametrize(
    ("outcome", "column"),
    [
        ("regression", "label"),
        ("survival", "time"),
        ("survival", "event"),
        ("multilabel", "death"),
        ("multilabel", "readmission"),
        ("ordinal", "label"),
    ],
)
def test_the_outcomes_own_column_as_a_feature(outcome, column, tmp_path):
    """Of every outcome, and of each of its columns."""
    cohort = generate(SyntheticConfig(patients=150, outcome=outcome, law="independent", missing="0.3,0.3"), 0)
    write_cohort(cohort, tmp_path / "c")
    patients = pd.read_parquet(tmp_path / "c/patients.parquet")
    values = patients[column]
    numbers = values if values.dtype.kind in "if" else pd.Series(pd.factorize(values, sort=True)[0])
    pd.DataFrame({"patient_id": patients["patient_id"], "copied": numbers}).to_csv(tmp_path / "c/late.csv", index=False)
    with (tmp_path / "c/cohort.toml").open("a") as file:
        file.write('\n[modalities.late]\nkind = "table"\ncolumns = ["copied"]\n')
    (warning,) = warnings(tmp_path / "c")
    assert warning.startswith("late: 'copied'")
