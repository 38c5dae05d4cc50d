"""Bins of scores: no model is too confident for them, ties stay ties, and sums of sites are exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from remind.federation.message_statistics import Evaluation
from remind.metrics.histograms import BINS, ScoreHistograms, bins, histograms
from remind.metrics.scores import scores
from remind.metrics.statistics import collect, merge

SCALES = st.sampled_from([0.2, 1.0, 10.0, 100.0, 1000.0])  # 0.2: hardly trained


def examined(label_B, log_p_BC):
    nothing = np.zeros(len(label_B))
    return collect(np.ones(len(label_B), dtype=np.int64), label_B, nothing, log_p_BC, nothing)[1]


def of_two(odds_B):
    """Log-probabilities of two classes from the log-odds of the second; beyond ±40 the larger one is 0."""
    return -np.logaddexp(0.0, np.stack([odds_B, -odds_B], axis=1))


def patients(seed, number, skill, offset):
    rng = np.random.default_rng(seed)
    label_B = (rng.random(number) < 0.3).astype(np.int64)
    label_B[:2] = 0, 1
    return label_B, rng.normal(size=number) + skill * label_B + offset


@given(seed=st.integers(0, 10**6), scale=SCALES, skill=st.sampled_from([0.0, 0.8, 2.0]), offset=st.floats(-4, 4))
def test_confident_models_keep_their_auroc(seed, scale, skill, offset):
    """The published example: beyond ±10 every score was in one of two bins, .502 ± .493 where .713 is true."""
    label_B, odds_B = patients(seed, 1000, skill, offset)
    found = scores(examined(label_B, of_two(scale * odds_B)))
    exact = roc_auc_score(label_B, odds_B)
    assert abs(found.auroc - exact) <= found.auroc_bound + 1e-12
    assert found.auroc_bound <= 0.005


@given(seed=st.integers(0, 10**6), scale=SCALES, classes=st.integers(3, 5))
def test_of_several_classes(seed, scale, classes):
    rng = np.random.default_rng(seed)
    label_B = np.concatenate([np.arange(classes), rng.integers(classes, size=900)])
    logits_BC = scale * (rng.normal(size=(len(label_B), classes)) + np.eye(classes)[label_B])
    log_p_BC = logits_BC - np.logaddexp.reduce(logits_BC, axis=1, keepdims=True)
    found = scores(examined(label_B, log_p_BC))
    rests_BC = [np.logaddexp.reduce(np.delete(logits_BC, c, axis=1), axis=1) for c in range(classes)]
    exact = np.mean([roc_auc_score(label_B == c, logits_BC[:, c] - rests_BC[c]) for c in range(classes)])
    assert abs(found.auroc - exact) <= found.auroc_bound + 1e-9
    assert found.auroc_bound <= 0.005


@given(seed=st.integers(0, 10**6), scale=SCALES, different=st.integers(1, 6))
def test_ties_count_a_half_and_their_bound_says_so(seed, scale, different):
    rng = np.random.default_rng(seed)
    label_B = np.concatenate([[0, 1], rng.integers(2, size=200)])
    odds_B = scale * np.linspace(-1, 1, different)[rng.integers(different, size=202)]
    found = scores(examined(label_B, of_two(odds_B)))
    assert found.auroc == pytest.approx(roc_auc_score(label_B, odds_B), abs=1e-12)
    if different == 1:
        assert (found.auroc, found.auroc_bound) == (0.5, 0.5)


@given(x=st.floats(allow_nan=False), y=st.floats(allow_nan=False))
def test_bins_are_in_the_order_of_scores(x, y):
    low, high = bins(np.array(sorted([x, y])))
    assert 0 <= low <= high < BINS


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e8, 1e30, 1e300]))
def test_beyond_all_reason_the_bound_still_holds(seed, scale):
    label_B, odds_B = patients(seed, 200, 1.0, 0.0)
    found = scores(examined(label_B, of_two(scale * odds_B)))
    assert abs(found.auroc - roc_auc_score(label_B, odds_B)) <= found.auroc_bound + 1e-12


def test_either_side_and_the_ends():
    found = bins(np.array([-np.inf, -1e300, -1e6, -1.0, 1.0, 1e6, 1e300, np.inf])).tolist()
    assert found == sorted(set(found)), "all in bins of their own, in order"
    assert bins(np.array([np.nan])) == bins(np.array([0.0]))


@given(seed=st.integers(0, 10**6), scale=SCALES, parts=st.integers(1, 5))
def test_sums_over_sites_are_those_of_the_pooled_patients(seed, scale, parts):
    label_B, odds_B = patients(seed, 60, 1.0, 0.0)
    log_p_BC, site_B = of_two(scale * odds_B), np.random.default_rng(seed).integers(parts, size=60)
    sites = [examined(label_B[site_B == s], log_p_BC[site_B == s]) for s in range(parts) if (site_B == s).any()]
    merged, pooled = merge([{1: one} for one in sites])[1], examined(label_B, log_p_BC)
    assert merged.scores.cells() == pooled.scores.cells()
    assert scores(merged).auroc == scores(pooled).auroc


def test_messages_grow_with_patients_and_not_with_bins():
    label_B, odds_B = patients(0, 50, 1.0, 0.0)
    message = Evaluation.of(examined(label_B, of_two(1000 * odds_B)))
    assert len(message.scores) <= 50
    label_B, odds_B = patients(0, 100_000, 1.0, 0.0)
    assert len(Evaluation.of(examined(label_B, of_two(odds_B))).model_dump_json()) < 120_000


def test_histograms_of_other_bins_are_refused():
    label_B, odds_B = patients(0, 20, 1.0, 0.0)
    content = Evaluation.of(examined(label_B, of_two(odds_B))).model_dump()
    assert content["bins"] == 2
    with pytest.raises(ValueError, match="bins"):
        Evaluation.model_validate(content | {"bins": 1})


def test_cells_in_any_order_and_more_than_once():
    found = ScoreHistograms.of([(0, 1, 7, 2), (0, 0, 9, 1), (0, 1, 7, 3)])
    assert found.cells() == [(0, 0, 9, 1), (0, 1, 7, 5)]
    (histogram_2K,) = found.each()
    assert histogram_2K.tolist() == [[0, 1], [5, 0]]
    assert ScoreHistograms.of([]).cells() == []
    assert histograms(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), (1,)).cells() == []
