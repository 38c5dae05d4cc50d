"""The worst of groups that are all equal, drawn by a slow simulation of its own."""

import numpy as np
import pytest
from scipy.stats import norm

from remind.metrics.chance import expected_worst_accuracy, expected_worst_auroc, worst_by_chance
from tests.builders.aggregates import MODEL, SCOPE


def slowly(auroc: float, sizes, draws: int = 4000) -> float:
    rng = np.random.default_rng(5)
    distance = np.sqrt(2) * norm.ppf(auroc)
    worst = []
    for _ in range(draws):
        pairs = [(rng.normal(size=n), rng.normal(distance, size=p)) for n, p in sizes]
        worst.append(min((y[:, None] > x[None]).mean() for x, y in pairs))
    return float(np.mean(worst))


@pytest.mark.parametrize("sizes", [[(30, 10)], [(30, 10), (12, 10), (20, 15)], [(6, 2)] * 5])
def test_the_worst_auroc_of_equal_groups(sizes):
    found = expected_worst_auroc(0.8, sizes, np.random.default_rng(0), draws=4000)
    assert found == pytest.approx(slowly(0.8, sizes), abs=0.01)


def test_one_group_is_what_it_is_and_more_and_smaller_groups_look_worse():
    def worst(*sizes):
        return expected_worst_auroc(0.8, sizes, np.random.default_rng(0), draws=2000)

    assert worst((40, 40)) == pytest.approx(0.8, abs=0.01)
    assert worst((40, 40)) > worst((40, 40), (40, 40)) > worst((40, 40), (5, 5)) > worst(*[(5, 5)] * 6)
    assert worst((40, 0)) is None
    assert worst() is None
    assert expected_worst_auroc(0.8, [(9, 9, 9)], np.random.default_rng(0)) is None, "three classes"


def test_the_worst_share_of_right_answers():
    rng = np.random.default_rng(0)
    assert expected_worst_accuracy(0.9, [[10, 20]], rng, draws=4000) == pytest.approx(0.9, abs=0.005)
    two = np.random.default_rng(1).binomial(30, 0.9, size=(2, 20000)).min(axis=0).mean() / 30
    assert expected_worst_accuracy(0.9, [[10, 20], [30, 0]], rng, draws=4000) == pytest.approx(two, abs=0.005)
    assert expected_worst_accuracy(None, [[10, 20]], rng) is None


def test_only_ranked_groups_and_sites_count_and_seeds_are_averaged():
    found = worst_by_chance({0: MODEL, 1: MODEL}, SCOPE)
    assert set(found) == {(m, s) for m in ("worst_group", "worst_site") for s in ("auroc", "accuracy")}
    ranked = [MODEL.groups[k].auroc for k in SCOPE.ranked_groups("auroc")]
    assert found["worst_group", "auroc"] < max(ranked)
    assert worst_by_chance({}, SCOPE) == {}
    assert worst_by_chance({0: MODEL, 1: MODEL}, SCOPE) == found, "drawn from the seeds alone"
