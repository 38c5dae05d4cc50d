"""Merged statistics are those of the pooled patients (invariant 4)."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.federation.message_statistics import USE_DIGITS, Evaluation
from remind.metrics.scores import experts_in_effect
from remind.metrics.statistics import MOST_LOG_LOSS, GroupLoss, collect, merge, scored_classes, total


def predictions(seed: int, number: int, classes: int):
    """Random groups, labels, losses, log-probabilities, gates and experts; some probabilities are exactly 0 or 1."""
    rng = np.random.default_rng(seed)
    logits_BC = rng.normal(size=(number, classes)) * rng.choice([0.1, 3.0, 2000.0], size=(number, 1))
    log_p_BC = logits_BC - np.logaddexp.reduce(logits_BC, axis=1, keepdims=True)
    return (
        rng.choice([1, 2, 5, 7], size=number, p=[0.6, 0.2, 0.15, 0.05]),
        rng.integers(classes, size=number),
        rng.gamma(1.0, size=number),
        log_p_BC,
        rng.integers(2, size=number).astype(np.float64),
        rng.dirichlet(np.ones(5), size=number) * rng.integers(2, size=number)[:, None],  # some need no expert
    )


@given(seed=st.integers(0, 10**6), sites=st.integers(1, 6), classes=st.integers(2, 4), number=st.integers(1, 80))
def test_merged_over_any_split_equals_pooled(seed, sites, classes, number):
    whole = predictions(seed, number, classes)
    site_B = np.random.default_rng(seed + 1).integers(sites, size=number)
    parts = [collect(*(part[site_B == s] for part in whole)) for s in range(sites) if (site_B == s).any()]
    pooled, merged = collect(*whole), merge(parts)
    assert list(merged) == list(pooled) == sorted(pooled)
    for group, one in pooled.items():
        other = merged[group]
        assert other.count == one.count == (whole[0] == group).sum()
        np.testing.assert_array_equal(other.confusion_CC, one.confusion_CC)
        assert other.scores.cells() == one.scores.cells()
        assert other.loss_sum == pytest.approx(one.loss_sum, rel=1e-12, abs=1e-12)
        assert other.log_loss_sum == pytest.approx(one.log_loss_sum, rel=1e-12, abs=1e-12)
        assert other.open_sum == one.open_sum
        np.testing.assert_allclose(other.use_sum_E, one.use_sum_E, rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4))
def test_collect_equals_a_loop_over_patients(seed, classes):
    group_B, label_B, loss_B, log_p_BC, open_B, use_BE = predictions(seed, 30, classes)
    found = collect(group_B, label_B, loss_B, log_p_BC, open_B, use_BE)
    for group, statistics in found.items():
        confusion = np.zeros((classes, classes), dtype=int)
        scores: Counter[tuple[int, int, int]] = Counter()
        for b in np.flatnonzero(group_B == group):
            confusion[label_B[b], int(log_p_BC[b].argmax())] += 1
            for h, c in enumerate(scored_classes(classes)):
                others = [v for other, v in enumerate(log_p_BC[b]) if other != c]
                odds = log_p_BC[b, c] - max(others) - math.log(sum(math.exp(v - max(others)) for v in others))
                size = abs(odds)  # far below the coarse bins
                steps = math.floor(256 * size if size < 8 else 2048 + 192 * math.log(size / 8))
                scores[h, int(label_B[b] == c), 4096 + (steps if odds >= 0 else -1 - steps)] += 1
        np.testing.assert_array_equal(statistics.confusion_CC, confusion)
        assert statistics.scores.cells() == [(*cell, n) for cell, n in sorted(scores.items())]
        assert statistics.loss_sum == pytest.approx(loss_B[group_B == group].sum())
        true = [min(-log_p_BC[b, label_B[b]], MOST_LOG_LOSS) for b in np.flatnonzero(group_B == group)]
        assert statistics.log_loss == pytest.approx(sum(true) / len(true), abs=1e-12)
        own = [use_BE[b] for b in np.flatnonzero(group_B == group)]
        assert statistics.use_E.tolist() == pytest.approx([sum(u[e] for u in own) / len(own) for e in range(5)])


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4))
def test_on_the_wire_and_back(seed, classes):
    for statistics in collect(*predictions(seed, 25, classes)).values():
        back = Evaluation.model_validate_json(Evaluation.of(statistics).model_dump_json()).value()
        for name in ("count", "loss_sum", "log_loss_sum", "open_sum"):
            assert getattr(back, name) == getattr(statistics, name)
        np.testing.assert_array_equal(back.confusion_CC, statistics.confusion_CC)
        assert back.scores.cells() == statistics.scores.cells()
        np.testing.assert_allclose(back.use_sum_E, statistics.use_sum_E, rtol=0, atol=0.5001 * 10**-USE_DIGITS)


@given(experts=st.lists(st.sampled_from([0, 1, 4, 5]), min_size=1, max_size=5), data=st.data())
def test_use_of_other_numbers_of_experts_is_no_use_of_any(experts, data):
    """In whatever order: the map is that of all patients, or it is empty."""
    one = collect(*predictions(1, 1, 2))
    parts = [replace(next(iter(one.values())), use_sum_E=np.full(number, 0.1)) for number in experts]
    shuffled = data.draw(st.permutations(parts))
    together = merge([{1: part} for part in shuffled])[1]
    same = len(set(experts)) == 1
    np.testing.assert_allclose(together.use_sum_E, np.full(experts[0], 0.1) * len(parts) if same else [])
    assert together.count == len(parts)


def test_experts_in_effect():
    assert experts_in_effect(np.full(8, 0.125)) == pytest.approx(8)
    assert experts_in_effect(np.array([0.0, 1.0, 0.0])) == pytest.approx(1)
    assert experts_in_effect(np.array([0.25, 0.0, 0.25])) == pytest.approx(2), "weights of patients who needed none"
    assert experts_in_effect(np.zeros(3)) is None
    assert experts_in_effect(np.zeros(0)) is None


def test_total_is_all_groups_together():
    whole = predictions(3, 50, 3)
    everybody = collect(np.ones(50, dtype=np.int64), *whole[1:])[1]
    together = total(collect(*whole))
    assert together is not None
    np.testing.assert_array_equal(together.confusion_CC, everybody.confusion_CC)
    assert together.loss_sum == pytest.approx(everybody.loss_sum, rel=1e-12)
    assert total({}) is None


def test_merging_kinds_that_differ_fails_rather_than_losing_the_confusion():
    statistics = collect(*predictions(0, 5, 2))
    group = next(iter(statistics))
    with pytest.raises(TypeError):
        statistics[group] + GroupLoss(1, 0.5)


def test_merging_nothing():
    assert merge([]) == {}
    assert merge([{}, {}]) == {}
