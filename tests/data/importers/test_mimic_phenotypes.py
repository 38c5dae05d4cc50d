"""MIMIC-IV: phenotypes as several labels, from a list of codes that the user gives."""

import re

import numpy as np
import pandas as pd
import pytest

from remind.data.cohort.read import read_cohort
from remind.data.importers.mimic_codes import Diagnoses
from remind.data.importers.mimic_iv import import_mimic
from remind.data.importers.mimic_phenotypes import Rule, phenotypes_of
from remind.errors import UserError
from remind.outcomes.multilabel import Multilabel
from tests.builders.mimic import CREATININE, HOUR, START, draw
from tests.builders.mimic_cohorts import DAY, settings

LIST = "phenotype,version,code\nheart failure,9,428*\nheart failure,10,I50*\nsepsis,9,038.9\nsepsis,10,A41*\n"


def phenotypes(root, text=LIST, **options):
    path = root / "phenotypes.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    summary = import_mimic(settings(root, label="phenotypes", phenotypes=path, **options))
    return pd.read_parquet(root / "cohort" / "patients.parquet").set_index("patient_id"), summary


def stay(release, subject, codes, days=5):
    """A person with an admission (10 · subject) and a stay (100 · subject) that have these codes."""
    release.patient(subject)
    release.admission(subject, 10 * subject, START, START + 10 * DAY)
    release.stay(subject, 10 * subject, 100 * subject, START, START + days * DAY)
    release.lab(subject, CREATININE, START + HOUR, 1)
    for seq, (code, version) in enumerate(codes, start=1):
        release.code(subject, 10 * subject, seq, code, version)


def test_a_phenotype_holds_if_a_code_of_the_stays_own_admission_belongs_to_it(small, tmp_path):
    small.code(1, 10, 1, "4280", 9)
    small.code(1, 10, 2, "0389", 9)
    stay(small, 2, [("I509", 10), ("A419", 9)])  # the second is not of version 10
    stay(small, 3, [("0389x", 9), ("1428", 9), ("0381", 9)])  # neither the whole code nor the beginning
    stay(small, 4, [])  # nothing known
    stay(small, 5, [("a4101", 10)])
    small.admission(3, 31, START - 9 * DAY, START - 5 * DAY)  # an earlier admission is not this stay's
    small.code(3, 31, 1, "I509", 10)
    found, summary = phenotypes(small.write(tmp_path))
    assert found[["heart failure", "sepsis"]].T.to_dict("list") == {
        100: ["yes", "yes"],
        200: ["yes", "no"],
        300: ["no", "no"],
        500: ["no", "yes"],
    }
    assert ("stays of admissions without a diagnosis code: their phenotypes are not known", 1) in summary.left_out
    codes = pd.read_parquet(tmp_path / "cohort" / "codes.parquet")
    assert list(zip(codes.patient_id, codes.code, strict=True)) == [(300, "10:I509")], "of earlier admissions only"
    cohort = read_cohort(tmp_path / "cohort")
    assert isinstance(cohort.schema.predicts, Multilabel)
    assert cohort.schema.predicts.labels == ("heart failure", "sepsis")
    assert cohort.label_N.tolist() == [2, 1, 0, 1]


def test_a_drawn_release_agrees_with_its_rows_and_has_no_code_of_a_stay_as_input(tmp_path):
    release = draw(3, subjects=40)
    found, _ = phenotypes(release.write(tmp_path), hours=4.0)
    of = {row["stay_id"]: row["hadm_id"] for row in release.rows["icu/icustays"]}
    own: dict[int, set[tuple[int, str]]] = {}
    for row in release.rows["hosp/diagnoses_icd"]:
        own.setdefault(row["hadm_id"], set()).add((row["icd_version"], row["icd_code"]))
    assert len(found) > 10
    for number, row in found.iterrows():
        codes = own[of[number]]
        assert (row["heart failure"] == "yes") == bool(codes & {(9, "4280"), (10, "I509")})
        assert (row["sepsis"] == "yes") == ((9, "0389") in codes)
    admitted = {row["hadm_id"]: (row["subject_id"], row["admittime"]) for row in release.rows["hosp/admissions"]}
    left = {row["hadm_id"]: (row["subject_id"], row["dischtime"]) for row in release.rows["hosp/admissions"]}
    inputs = pd.read_parquet(tmp_path / "cohort" / "codes.parquet")
    assert len(inputs)
    for number, code in zip(inputs.patient_id, inputs.code.astype(str), strict=True):
        person, start = admitted[of[number]]
        earlier = [hadm for hadm, (who, end) in left.items() if who == person and end <= start and hadm != of[number]]
        assert any((int(code[:2]), code[3:]) in own.get(hadm, set()) for hadm in earlier)


def test_what_cannot_be_learned_and_rows_without_a_code_are_named(small, tmp_path):
    small.code(1, 10, 1, "4280", 9)
    stay(small, 2, [("4281", 9)])
    _, summary = phenotypes(small.write(tmp_path))
    text = summary.to_text()
    assert "note: 3 of 4 rows of --phenotypes match no code of these stays: 10 I50*, 9 0389, 10 A41*" in text
    assert "note: no stay has sepsis: it cannot be learned from this cohort" in text
    assert "note: every stay has heart failure: it cannot be learned from this cohort" in text


def test_all_that_is_wrong_with_a_list_of_phenotypes_is_said_at_once(small, tmp_path):
    rows = ",9,428\nperson,9,1\na,11,428\na,9,4*8\nb,9,428*\nb,9,42.8*\n"
    with pytest.raises(UserError) as caught:
        phenotypes(small.write(tmp_path), "phenotype,version,code\n" + rows)
    for part in (
        "line 2, column 'phenotype': empty",
        "line 3, column 'phenotype', value 'person': is a column of the patients file",
        "line 4, column 'version', value '11': no such version of ICD; use 9 or 10",
        "line 5, column 'code', value '4*8': not a code",
        "line 7, column 'code', value '428': stands in an earlier line too",
    ):
        assert part in str(caught.value)
    for text, part in (
        ("phenotype,version,code\n", "has no rows; put one row per code"),
        ("phenotype,code\na,1\n", "column 'version': no such column; add it"),
        ("phenotype,version,code\na,9,1\na,9,2\n", "has one phenotype, a"),
    ):
        with pytest.raises(UserError, match=part):
            phenotypes(tmp_path, text)
    assert not (tmp_path / "cohort").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codes": "this"}, "--codes this with --label phenotypes: the label is made of the codes of this stay"),
        ({"codes": "all", "allow_leakage": True}, "--codes all with --label phenotypes: the label is made"),
        ({"notes": "discharge"}, "--notes discharge with --label phenotypes: written after the discharge"),
        ({"label": "48h"}, "--phenotypes with --label 48h: it lists the codes of the label phenotypes; leave it out"),
        ({"phenotypes": None}, "--label phenotypes without its codes: name the file"),
    ],
)
def test_the_codes_of_the_label_are_never_an_input(tmp_path, options, words):
    with pytest.raises(UserError, match=re.escape(words)):
        settings(tmp_path, **({"label": "phenotypes", "phenotypes": tmp_path / "p.csv"} | options)).check()


def test_phenotypes_are_those_of_a_loop_over_rules_and_codes():
    rng = np.random.default_rng(0)
    codes = sorted({f"{v}:{letter}{n}" for v in ("09", "10") for letter in "IJ" for n in rng.integers(0, 400, 40)})
    drawn = rng.choice(codes, 60).tolist()
    rules = tuple(
        dict.fromkeys(
            Rule(f"phenotype {rng.integers(5)}", int(code[:2]), code[3 : 4 + rng.integers(4)], bool(rng.integers(2)))
            for code in drawn
        )
    )
    rows = pd.DataFrame({"stay": rng.integers(0, 50, 200), "code": rng.integers(0, len(codes), 200)})
    found, remarks = phenotypes_of(rules, Diagnoses(rows, tuple(codes)), 50)

    def holds(rule, name):
        code = name[3:]
        return int(name[:2]) == rule.version and (code.startswith(rule.code) if rule.prefix else code == rule.code)

    expected = np.zeros((50, len(found.names)), dtype=bool)
    for stay, code in rows.itertuples(index=False):
        for rule in rules:
            expected[stay, found.names.index(rule.phenotype)] |= holds(rule, codes[code])
    np.testing.assert_array_equal(found.holds_NL, expected)
    assert 0.05 < expected.mean() < 0.95
    idle = sum(not any(holds(rule, name) for name in codes) for rule in rules)
    assert [f"{idle} of {len(rules)} rows" in remark for remark in remarks] == [True] * bool(idle)
