"""Cohorts of every outcome as a user writes them by hand, with mistakes: what is refused, what is only a warning."""

import pytest

from remind.data.checks.check import check_cohort
from remind.errors import UserError
from remind.metrics.scores import EVERY
from remind.outcomes.base import require
from remind.outcomes.regression import RegressionSection

HBA1C = ('kind = "regression"\ncolumn = "hba1c"\nrange = [3, 20]', {"hba1c": [5.1 + 0.05 * i for i in range(24)]})
DIED = (
    'kind = "survival"\ntime = "days"\nevent = "died"\nedges = [3, 7, 14]\nunit = "days"',
    {"days": [1 + i for i in range(24)], "died": ["yes", "no"] * 12},
)
GRADE = ('kind = "ordinal"\nclasses = ["mild", "mid", "severe"]', {"label": ["mild", "mid", "severe"] * 8})
BOTH = (
    'kind = "multilabel"\nlabels = ["death", "readmission"]',
    {"death": ["no", "yes"] * 12, "readmission": ["no", "no", "yes"] * 8},
)


def checked(folder, label, columns):
    folder.mkdir()
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(["patient_id", "site", *columns])]
    lines += [",".join([f"p{i}", "ab"[i % 2], *map(str, row)]) for i, row in enumerate(rows)]
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    (folder / "labs.csv").write_text("patient_id,x\n" + "".join(f"p{i},{i * 7 % 5}\n" for i in range(24)))
    section = '[modalities.labs]\nkind = "table"\ncolumns = ["x"]\n'
    (folder / "cohort.toml").write_text(f'name = "c"\n[label]\n{label}\n{section}')
    return check_cohort(folder)


def test_a_number_whose_mean_and_scale_do_not_fit_can_be_learned(tmp_path):
    label, columns = HBA1C
    report = checked(tmp_path / "c", label, columns)  # all are in the lowest quarter of what was declared
    assert report.ok
    assert any("label.mean and label.scale are 11.5 and 4.25" in line for line in report.warnings)
    assert not any("class" in line or "AUROC" in line for line in report.warnings if "label" in line)
    fitting = checked(tmp_path / "d", f"{label}\nmean = 5.7\nscale = 0.4", columns)
    assert not any("label.mean" in line for line in fitting.warnings)


@pytest.mark.parametrize(
    ("made", "change", "words"),
    [
        (HBA1C, {"hba1c": ["5.5"] * 24}, "all 24 patients have the number 5.5"),
        (DIED, {"died": ["no"] * 24}, "all 24 patients are without the event until the last edge, 14 days"),
        (DIED, {"days": ["30"] * 24}, "all 24 patients are without the event until the last edge, 14 days"),
        (DIED, {"days": ["1"] * 24, "died": ["yes"] * 24}, "all 24 patients have the event in the same interval"),
        (GRADE, {"label": ["mid"] * 24}, "all 24 patients are of class 'mid'"),
        (BOTH, {"death": ["no"] * 24, "readmission": ["yes"] * 24}, "all 24 patients have the same labels"),
    ],
)
def test_patients_who_are_all_alike_are_refused_in_the_words_of_their_outcome(made, change, words, tmp_path):
    label, columns = made
    report = checked(tmp_path / "c", label, columns | change)
    assert any(words in problem.what for problem in report.problems)


def test_everybody_with_the_event_at_different_times_can_be_learned(tmp_path):
    label, columns = DIED
    report = checked(tmp_path / "c", label, {"days": [1 + i % 13 for i in range(24)], "died": ["yes"] * 24})
    assert report.ok
    assert columns.keys() == {"days", "died"}
    assert not any("class" in line for line in report.warnings)


@pytest.mark.parametrize(
    ("made", "column", "words"),
    [(DIED, "died", "0 or 1, or change label.events"), (BOTH, "death", "0 or 1, or change label.values")],
)
@pytest.mark.parametrize("values", [["maybe"] * 24, [f"{i}.5" for i in range(24)]])
def test_a_wrong_name_is_told_with_the_field_that_lists_the_names(made, column, words, values, tmp_path):
    label, columns = made
    (problem,) = checked(tmp_path / "c", label, columns | {column: values}).problems
    said = problem.remedy
    assert words in said if values[0] == "maybe" else words.rpartition(" ")[2] in said
    assert "label.classes" not in said


@pytest.mark.parametrize(
    ("label", "columns", "words"),
    [
        (BOTH[0].replace("readmission", "death"), BOTH[1], "labels lists death more than once"),
        (DIED[0].replace('"died"', '"days"'), DIED[1], "time and event are both the column 'days'"),
        (HBA1C[0].replace("[3, 20]", "[-1e308, 1e308]"), HBA1C[1], "too wide to compute with"),
    ],
)
def test_a_section_that_cannot_work_is_refused(label, columns, words, tmp_path):
    with pytest.raises(UserError, match=words):
        checked(tmp_path / "c", label, columns)


def test_labels_that_cannot_be_learned_are_named(tmp_path):
    label, columns = BOTH
    unknown = checked(tmp_path / "c", f'{label}\nmissing = "drop"', columns | {"death": [""] * 24})
    assert unknown.ok
    assert any("label 'death' is known of no patient" in line for line in unknown.warnings)
    never = checked(tmp_path / "d", label, columns | {"death": ["no"] * 24})
    assert any("label 'death' holds for no patient" in line for line in never.warnings)


def test_a_hospital_without_events_is_told_so_and_not_of_classes(tmp_path):
    label, columns = DIED
    report = checked(tmp_path / "c", label, columns | {"died": ["yes", "no"] * 12})  # hospital b has none
    assert any("site 'b': all 12 patients are without the event" in line for line in report.warnings)
    assert not any("class" in line for line in report.warnings)


@pytest.mark.parametrize("center", [0.0, 2020.0, 1e6])
def test_strata_of_a_number_have_different_names(center):
    own = RegressionSection(kind="regression", range=(center, center + 4)).outcome
    assert len({part for name in own.strata for part in name.split(" … ")}) == 5


def test_log_loss_is_not_of_classes_alone_and_a_refusal_has_a_remedy():
    assert "of other outcomes" in EVERY["log_loss"].meaning
    own = RegressionSection(kind="regression", range=(3.0, 20.0)).outcome
    with pytest.raises(
        UserError, match=r"kind = 'regression' in cohort.toml\); leave it out, or use a model of classes"
    ):
        require(own, "remind export")


@pytest.mark.parametrize(
    "label",
    [
        'kind = "regression"\ncolumn = "patient_id"\nrange = [0, 100]',
        'kind = "survival"\ntime = "days"\nevent = "patient_id"\nedges = [3, 7]',
        'kind = "multilabel"\nlabels = ["death", "patient_id"]',
        'column = "patient_id"\nclasses = ["no", "yes"]',
    ],
)
def test_the_column_of_ids_is_no_outcome(tmp_path, label):
    with pytest.raises(UserError, match=r"field 'label': it reads the column 'patient_id', which has the"):
        checked(tmp_path / "c", label, BOTH[1])


@pytest.mark.parametrize("wrong", ["nan", "-3", '"a"'])
def test_a_wrong_entry_of_a_list_is_not_counted_as_missing(tmp_path, wrong):
    label, columns = DIED
    with pytest.raises(UserError) as caught:
        checked(tmp_path / "c", label.replace("[3, 7, 14]", f"[{wrong}, 4]"), columns)
    assert "label.edges 1" in str(caught.value)
    assert "give at least" not in str(caught.value)


@pytest.mark.parametrize(("label", "columns"), [HBA1C, DIED, GRADE, BOTH])
def test_a_cohort_without_patients_is_not_told_to_lack_a_modality(tmp_path, label, columns):
    report = checked(tmp_path / "c", label, {name: [] for name in columns})
    (line,) = [str(problem) for problem in report.problems if "patients.csv" in str(problem)]
    assert line == "patients.csv: has no rows; add a row per patient"
