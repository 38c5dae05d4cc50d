"""Cells of yardsticks: the patients and folds of all other cells, scored by the same statistics."""

from dataclasses import replace

import numpy as np
import pytest

from remind import groups
from remind.data.cohort.cohort import TEST
from remind.data.sites.sites import Site
from remind_studies.arms import all_yardsticks
from remind_studies.cells import yardstick
from remind_studies.cells.cell import Cell
from remind_studies.cells.patients import hospitals
from remind_studies.study import Panel
from tests.builders.studies import SMALL

COMMON = SMALL | {"synthetic.patients": 200}


def cell(learner="logistic", place="local", **settings) -> Cell:
    options = {"learner": learner, "place": place}
    return Cell.of(yardstick.needed({**COMMON, **settings, "seed": 1}), 2, options, "yardstick")


@pytest.mark.parametrize(
    ("learner", "place"),
    [
        ("logistic", "local"),
        ("logistic", "pooled"),
        ("boosting(rounds = 10)", "pooled"),
        ("xgb_cyclic(rounds = 2)", "federated"),
    ],
)
def test_it_tests_exactly_the_test_patients_of_each_hospital(learner, place, tmp_path):
    one = cell(learner, place)
    result = yardstick.run(one, tmp_path)
    for own in hospitals(one):
        found = result.outcomes[0].test[own.name]
        expected = own.cohort.take(own.cohort.split_N == TEST)
        assert {k: e.count for k, e in found.items()} == groups.counts(expected.groups_N)
        by_class = sum(np.array(e.confusion).sum(axis=1) for e in found.values())
        np.testing.assert_array_equal(by_class, np.bincount(expected.label_N, minlength=len(by_class)))


@pytest.mark.parametrize("place", ["local", "pooled"])
def test_labels_of_test_patients_change_nothing_that_is_learned(place, tmp_path, monkeypatch):
    one = cell(place=place)
    before = yardstick.run(one, tmp_path).outcomes[0].validation

    def turned(cell: Cell) -> tuple[Site, ...]:
        return tuple(
            replace(s, cohort=replace(s.cohort, label_N=np.where(s.cohort.split_N == TEST, 0, s.cohort.label_N)))
            for s in hospitals(cell)
        )

    monkeypatch.setattr(yardstick, "hospitals", turned)
    assert yardstick.run(one, tmp_path).outcomes[0].validation == before


def test_settings_of_training_make_no_other_run_and_those_of_patients_do():
    (arm,) = (one for one in all_yardsticks() if one.name == "local boosting")
    panel = Panel("p", "", (arm,), clients=2)

    def key(**changes) -> str:
        return panel.cell(arm, {**COMMON, **changes}, 0).key("here")

    assert key() == key(**{"train.lr": 0.5, "method.rule": "lg"})
    assert key() != key(**{"synthetic.patients": 210})
    assert key() != key(**{"data.validation": 0.2})
