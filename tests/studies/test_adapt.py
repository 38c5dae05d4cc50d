"""Study `adapt`: the drawn patients, the panels, and the evaluations of a cell."""

import numpy as np
import pytest

from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION
from remind.errors import UserError
from remind_studies.cells.adapt import ALL, divided, with_patients
from remind_studies.cells.cell import Cell
from remind_studies.cells.patients import hospitals
from remind_studies.cells.runners import run
from remind_studies.results.contenders import Run, contenders, joined, reference
from tests.builders.studies import LARGER, plan, request

SITES = ("north", "south")


def study(options=""):
    of = request("remind", own_hospitals=SITES)
    return of, plan(f"adapt({options})", of)


def test_a_panel_per_number_of_patients_all_of_the_same_cells():
    of, panels = study("patients = '10, all'")
    assert [(p.name, p.reference, p.models) for p in panels] == [
        ("10 patients", "adapted, frozen", "10: "),
        ("all patients", "adapted, frozen", "all: "),
    ]
    first, second = (panel.cells(panel.arms[0], of.common, 3) for panel in panels)
    assert first == second
    assert [cell.options["out"] for cell in first] == [0, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("patients = '3'", "3 are too few to adapt to; at least 8"),
        ("patients = 'many'", "'many'"),
        ("shared = 'melted'", "there is no 'melted'"),
        ("yardsticks = 'xgb_bagging'", "xgb_bagging is a federation's"),
    ],
)
def test_options_are_refused_by_name(options, words):
    with pytest.raises(UserError, match=words):
        study(options)


def test_methods_without_one_model_and_one_hospital_are_refused():
    with pytest.raises(UserError, match="no single complete model"):
        plan("adapt", request("remind, remind+local", own_hospitals=SITES))
    with pytest.raises(UserError, match="a cohort with two or more"):
        plan("adapt", request("remind", own_hospitals=("north",)))


def test_fewer_patients_are_among_more_and_the_test_is_the_same():
    cohort = hospitals(Cell.of({**LARGER, "seed": 0}, 2))[0].cohort
    few, more, every = (with_patients(cohort, n, seed=0) for n in (10, 40, ALL))

    def ids(of, part):
        return set(of.patient_id_N[of.split_N == part].tolist())

    assert len(ids(few, TRAIN)) == 10
    assert ids(few, TRAIN) < ids(more, TRAIN) < ids(every, TRAIN)
    assert ids(few, TEST) == ids(more, TEST) == ids(every, TEST) == ids(cohort, TEST)
    labels = few.label_N[few.split_N == TRAIN]
    assert np.bincount(labels).min() >= 2, "two of each class"
    assert ids(every, TRAIN) == ids(cohort, TRAIN) | ids(cohort, VALIDATION)


def test_validation_patients_are_held_back_only_where_they_can_tell_something():
    cell = Cell.of({**LARGER, "seed": 0, "data.validation": 0.2}, 2)
    cohort = hospitals(cell)[0].cohort
    few = divided(with_patients(cohort, 30, 0), cell.config, 0)
    assert not (few.split_N == VALIDATION).any()
    every = divided(with_patients(cohort, ALL, 0), cell.config, 0)
    assert (every.split_N == VALIDATION).sum() >= 20
    assert (every.split_N == TEST).sum() == (cohort.split_N == TEST).sum()


@pytest.mark.slow
def test_a_cell_adapts_and_trains_alone_on_the_same_patients(tmp_path):
    of = request("remind", clients=2)
    panels = plan("adapt(patients = '20, all', shared = 'frozen', rounds = 1)", of)
    results = [run(cell, tmp_path / str(i)) for i, cell in enumerate(panels[0].cells(panels[0].arms[0], of.common, 0))]
    for panel in panels:
        rows = contenders(panel, [Run(panel.name, "remind", 0, result) for result in results])
        assert [row.name for row in rows] == [
            "adapted, frozen",
            "alone, remind",
            "alone, boosting",
            "alone, logistic",
        ]
        assert reference(panel, rows) == "adapted, frozen"
        tested = [
            {site: {k: e.count for k, e in own.items()} for site, own in row.outcomes[0].test.items()} for row in rows
        ]
        assert len(tested[0]) == 2
        assert all(one == tested[0] for one in tested)
    with pytest.raises(ValueError, match="two parts of a run tested"):
        joined(results[0], results[0])
