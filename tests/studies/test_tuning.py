"""Tuning: the same budget for every method, judged on validation patients, never on those of the study's test."""

import numpy as np
import pytest

from remind.federation.message_statistics import Evaluation
from remind.metrics.statistics import collect
from remind_studies.arms import read_arms
from remind_studies.cells.cell import Cell, CellResult, Outcome
from remind_studies.cells.folder import StudyFolder
from remind_studies.cells.patients import cohort_of, hospitals
from remind_studies.study import Request
from remind_studies.tuning import Tuning, judge, trials, tune_arms
from tests.builders.studies import SMALL

COUNTS = {3: 90, 1: 5, 2: 5}


def request(methods="attention, remind", seeds=(0, 1)):
    cell = Cell.of(SMALL | {"seed": 0})
    cohort = cohort_of(cell.config.data, cell.config.synthetic, 0)
    return Request(SMALL, cohort, read_arms(methods, SMALL), seeds, 2)


def result(auroc_of: dict[int, float]) -> CellResult:
    """Validation patients of which the given share of pairs is in order, in each group."""
    parts = {}
    for group, auroc in auroc_of.items():
        positives = 10
        p_B = np.array([0.5] * 1 + [0.9] * round(auroc * positives) + [0.1] * (positives - round(auroc * positives)))
        label_B = np.array([0] + [1] * positives)
        log_p_BC = np.log(np.stack([1 - p_B, p_B], axis=1))
        zero_B = np.zeros(len(p_B))
        parts |= collect(np.full(len(p_B), group), label_B, -log_p_BC[:, 1], log_p_BC, zero_B)
    outcome = Outcome(test={}, validation={"a": {k: Evaluation.of(s) for k, s in parts.items()}})
    cell = Cell.of({"seed": 0})
    return CellResult(
        cell=cell,
        modalities=("a", "b"),
        classes=("0", "1"),
        counts=COUNTS,
        site_counts={},
        outcomes=(outcome,),
        seconds=0,
    )


def test_every_method_has_the_same_number_of_trials_and_begins_as_it_was_given():
    asked = request("attention, groupdro, remind, fedavg")
    for arm in asked.arms:
        tried = trials(arm, asked.config, 6)
        assert len(tried) == 6
        assert tried[0] == {}
        assert all(a != b for i, a in enumerate(tried) for b in tried[:i])


def test_shared_knobs_are_drawn_relative_to_what_is_configured():
    (arm,) = request("attention").arms
    rates = {t.get("train.lr", 5e-4) for t in trials(arm, Cell.of({"seed": 0}).config, 12)}
    assert sorted(rates) == pytest.approx([1.5e-4, 5e-4, 1.5e-3])


def test_the_judge_is_the_mean_over_tail_groups():
    assert judge([result({3: 1.0, 1: 0.4, 2: 0.8})], "auroc") == pytest.approx(0.6)
    assert judge([result({3: 0.7})], "auroc") == pytest.approx(0.7), "without tail patients: everybody"
    lower, higher = result({1: 0.2, 2: 0.2}), result({1: 0.9, 2: 0.9})
    assert judge([higher], "loss") > judge([lower], "loss")


def test_tuning_seeds_are_none_of_the_study():
    cell = Cell.of(SMALL | {"seed": 0})
    assert cell.config.data.test == 0.2
    from remind_studies.tuning import _seeds

    assert _seeds(request(seeds=(0, 1, 2))) == (5, 6)
    assert _seeds(request(seeds=(0, 5))) == (10, 11)


@pytest.mark.slow
def test_the_best_trial_wins_and_is_what_the_study_runs(tmp_path):
    asked = request("attention", seeds=(0,))
    tuning = tune_arms(asked, 3, StudyFolder(tmp_path), "here", 1, lambda _: None)
    (arm,) = asked.arms
    scores = []
    for changes in trials(arm, asked.config, 3):
        cells = [Cell.of({**SMALL, **arm.settings, **changes, "seed": seed}, 2) for seed in tuning.seeds]
        scores.append(judge([StudyFolder(tmp_path).find(cell.key("here")) for cell in cells], "auroc"))
    best = trials(arm, asked.config, 3)[int(np.argmax(scores))]
    assert tuning.chosen["attention"] == best
    assert best.items() <= tuning.applied(asked).arms[0].settings.items()
    assert "3 settings" in tuning.described("c")["text"]
    assert hospitals(Cell.of(SMALL | {"seed": tuning.seeds[0]}, 2))


def test_no_tuning_changes_nothing_and_says_so():
    asked = request()
    tuning = Tuning.none(asked.arms)
    assert tuning.applied(asked) == asked
    assert tuning.described("c")["budget"] == 0
