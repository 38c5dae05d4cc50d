"""One definition of tail, ranked, mean and worst for runs and studies."""

import numpy as np
import pytest

from remind.metrics.aggregates import Scope, averaged, lopsided, measure, tail_groups, worst
from remind.metrics.scores import SCORES
from tests.builders.aggregates import COUNTS, MODEL, SCOPE


def test_tail_are_rare_groups_and_those_that_nobody_was_trained_on():
    assert tail_groups(COUNTS) == {2, 4, 8}
    assert SCOPE.tail == {2, 4, 8, 16, 32}
    assert tail_groups({}, [3]) == {3}


def test_ranked_are_groups_of_enough_patients_and_by_auroc_of_enough_of_two_classes():
    assert SCOPE.ranked_groups("accuracy") == {1, 2, 4, 16}, "32 has 29 tested patients, 8 none"
    assert SCOPE.ranked_groups("log_loss") == {1, 2, 4, 16}
    assert SCOPE.ranked_groups("auroc") == SCOPE.ranked_groups("balanced_accuracy") == {1, 2, 16}, "4 has one class"
    assert lopsided([40, 0])
    assert lopsided([40, 9])
    assert lopsided([9, 40]), "too few without the outcome are too few as well"
    assert not lopsided([40, 10])
    assert not lopsided([3, 15, 12])


def test_a_mean_says_of_how_many_groups_it_is():
    found, of = measure("mean_tail", MODEL, SCOPE), averaged("mean_tail", MODEL, SCOPE)
    assert (of["auroc"], of["accuracy"]) == (2, 3)
    assert found["auroc"] == pytest.approx(np.mean([MODEL.groups[k].auroc for k in (2, 16)]))
    assert found["accuracy"] == pytest.approx(np.mean([MODEL.groups[k].accuracy for k in (2, 4, 16)]))


def test_the_worst_group_has_support():
    assert min(MODEL.groups, key=lambda k: MODEL.groups[k].accuracy) == 32, "what few patients make the worst"
    for metric, score in SCORES.items():
        ranked: dict[int | str, float] = {k: getattr(MODEL.groups[k], metric) for k in SCOPE.ranked_groups(metric)}
        expected = (max if score.lower_is_better else min)(ranked.values())
        assert measure("worst_group", MODEL, SCOPE)[metric] == expected
        assert ranked[worst(ranked, metric)] == expected


def test_nobody_is_ranked():
    nobody = Scope(tail=frozenset({2}), groups=frozenset(), sites=frozenset())
    assert set(measure("worst_group", MODEL, nobody).values()) == {None}
    assert set(averaged("mean_tail", MODEL, nobody).values()) == {0}
    assert worst({}, "auroc") is None
