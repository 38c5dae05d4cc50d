"""MIMIC-IV: the written data agree with a slow implementation of the rules, and never contain the future."""

import pytest

from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.importers import release as release_module
from remind.data.importers.mimic_iv import import_mimic
from remind.errors import UserError
from tests.builders.mimic import HOUR, START, UNITS, draw
from tests.builders.mimic_cohorts import close, found, settings
from tests.data.importers.mimic_oracle import expected


@pytest.mark.parametrize("block", [1 << 11, 1 << 25])
@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("48h", {}),
        ("in-hospital", {"notes": "history"}),
        ("one-year", {}),
        ("48h", {"notes": "discharge", "codes": "this", "allow_leakage": True}),
        ("one-year", {"notes": "history", "codes": "previous"}),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agrees_with_a_slow_reading_of_the_rules(tmp_path, monkeypatch, seed, label, options, block):
    monkeypatch.setattr(release_module, "BLOCK", block)
    release = draw(seed, 60)
    root = release.write(tmp_path, zipped=seed % 2 == 0)
    wanted = settings(root, label=label, **options)
    summary = import_mimic(wanted)
    truth = expected(release, label, wanted.notes_rule, wanted.codes_rule)
    assert len(truth) > 10
    assert {what["died"] for what in truth.values()} == {True, False}
    for modality in ("labs", "notes", "codes"):
        assert 2 < sum(bool(what[modality]) for what in truth.values()) < len(truth)
    close(found(root / "cohort"), truth)
    assert len(summary.label_N) == len(truth)
    assert summary.label_N.sum() == sum(what["died"] for what in truth.values())
    assert summary.persons == len({what["person"] for what in truth.values()})


@pytest.mark.parametrize("as_text", [False, True])
def test_the_cohort_reads_and_its_groups_are_those_of_the_summary(tmp_path, as_text):
    root = draw(5, 60).write(tmp_path)
    summary = import_mimic(settings(root, as_text=as_text, care_units=True))
    report = check_cohort(root / "cohort", alone=False)  # so few stays may all end well
    assert report.problems == ()
    cohort = read_cohort(root / "cohort")
    assert cohort.schema.names == ("notes", "labs", "codes")
    kinds = [modality.kind for modality in cohort.schema.modalities]
    assert kinds == (["text"] * 3 if as_text else ["text", "series", "codes"])
    assert (cohort.presence_Nm == summary.presence_Nm).all()
    assert (cohort.label_N == summary.label_N).all()
    assert set(cohort.site_N) == set(UNITS)
    assert len(set(cohort.person_N)) == summary.persons < len(cohort)


def test_nothing_of_the_future_is_seen(tmp_path):
    """Whatever is stored after the index time, or coded at the discharge, may be anything: the input stays the same."""
    release = draw(7, 60)
    import_mimic(settings(release.write(tmp_path / "a"), notes="history"))
    truth = found(tmp_path / "a" / "cohort")
    index = {row["stay_id"]: row["intime"] + 48 * HOUR for row in release.rows["icu/icustays"]}
    last = {}  # latest index time of each person
    for row in release.rows["icu/icustays"]:
        if row["stay_id"] in truth:
            last[row["subject_id"]] = max(last.get(row["subject_id"], START), index[row["stay_id"]])
    changed = 0
    for table in ("hosp/labevents", "icu/chartevents", "note/radiology", "note/discharge"):
        for row in release.rows[table]:
            known = row["storetime"] or row["charttime"]
            if row["subject_id"] in last and known > last[row["subject_id"]]:
                row["valuenum" if "events" in table else "text"] = 7 if "events" in table else "patient has died"
                changed += 1
    for row in release.rows["hosp/diagnoses_icd"]:
        admitted = {a["hadm_id"]: a["dischtime"] for a in release.rows["hosp/admissions"]}[row["hadm_id"]]
        if row["subject_id"] in last and admitted > last[row["subject_id"]]:
            row["icd_code"] = "R99"  # death
            changed += 1
    assert changed > 30
    import_mimic(settings(release.write(tmp_path / "b"), notes="history"))
    assert found(tmp_path / "b" / "cohort") == truth


@pytest.mark.parametrize(
    "options", [{"notes": "discharge"}, {"codes": "this"}, {"codes": "all"}], ids=["notes", "this", "all"]
)
@pytest.mark.parametrize("label", ["48h", "in-hospital"])
def test_what_tells_the_outcome_is_refused_unless_asked_for(small, tmp_path, label, options):
    small.code(1, 10, 1, "I509", 10)
    root = small.write(tmp_path)
    with pytest.raises(UserError, match=r"written after the discharge.*--allow-leakage"):
        import_mimic(settings(root, label=label, **options))
    assert not (root / "cohort").exists()
    summary = import_mimic(settings(root, label=label, **options, allow_leakage=True))
    text = (root / "cohort" / "cohort.toml").read_text()
    assert f'name = "mimic-iv-{label}-leaky"' in text
    assert "LEAKS" in text
    assert "no predictions" in summary.to_text()
