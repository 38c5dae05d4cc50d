"""Scores from merged statistics against scikit-learn on the raw predictions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score, roc_auc_score

from remind.metrics.formulas import auroc
from remind.metrics.scores import scores
from remind.metrics.statistics import collect


def summarised(label_B, log_p_BC):
    number = len(label_B)
    ones = np.ones(number, dtype=np.int64)
    return scores(collect(ones, label_B, np.zeros(number), log_p_BC, np.zeros(number))[1])


def draw(seed: int, number: int, classes: int, spread: float):
    rng = np.random.default_rng(seed)
    label_B = rng.integers(classes, size=number)
    logits_BC = spread * rng.normal(size=(number, classes)) + np.eye(classes)[label_B]
    return label_B, logits_BC - np.logaddexp.reduce(logits_BC, axis=1, keepdims=True)


SPREADS = st.sampled_from([1e-3, 0.5, 3.0, 30.0])


@given(seed=st.integers(0, 10**6), number=st.integers(2, 120), spread=SPREADS)
def test_two_classes_equal_sklearn(seed, number, spread):
    label_B, log_p_BC = draw(seed, number, 2, spread)
    found, predicted_B = summarised(label_B, log_p_BC), log_p_BC.argmax(axis=1)
    assert found.n == number
    assert found.positives == label_B.sum()
    assert found.accuracy == pytest.approx(accuracy_score(label_B, predicted_B))
    if len(np.unique(label_B)) == 1:
        assert found.macro_f1 is None, "of one class alone it would only count right answers"
    else:
        assert found.macro_f1 == pytest.approx(f1_score(label_B, predicted_B, average="macro"))
    if len(set(label_B.tolist())) == 1:
        assert found.balanced_accuracy is found.auroc is found.auroc_bound is None
        return
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(label_B, predicted_B))
    exact = roc_auc_score(label_B, log_p_BC[:, 1] - log_p_BC[:, 0])
    assert abs(found.auroc - exact) <= found.auroc_bound + 1e-12


@given(seed=st.integers(0, 10**6), classes=st.integers(3, 5), number=st.integers(1, 80), spread=SPREADS)
def test_more_classes_equal_sklearn(seed, classes, number, spread):
    label_B, log_p_BC = draw(seed, number, classes, spread)
    label_B = np.where(label_B == classes - 1, 0, label_B) if seed % 2 else label_B  # a class that never occurs
    found, predicted_B = summarised(label_B, log_p_BC), log_p_BC.argmax(axis=1)
    assert found.positives is None
    assert found.accuracy == pytest.approx(accuracy_score(label_B, predicted_B))
    if len(np.unique(label_B)) == 1:
        assert found.macro_f1 is None, "of one class alone it would only count right answers"
    else:
        assert found.macro_f1 == pytest.approx(f1_score(label_B, predicted_B, average="macro"))
    occurring = sorted(set(label_B.tolist()))
    if len(occurring) == 1:
        assert found.balanced_accuracy is found.auroc is None
        return
    recall = recall_score(label_B, predicted_B, labels=occurring, average="macro")
    assert found.balanced_accuracy == pytest.approx(recall)
    odds_BC = np.stack(
        [log_p_BC[:, c] - np.logaddexp.reduce(np.delete(log_p_BC, c, axis=1), axis=1) for c in range(classes)], axis=1
    )
    exact = np.mean([roc_auc_score(label_B == c, odds_BC[:, c]) for c in occurring])
    assert abs(found.auroc - exact) <= found.auroc_bound + 1e-12


def test_bound_is_small_for_ordinary_scores_and_reached_by_the_worst():
    label_B, log_p_BC = draw(0, 2000, 2, 2.0)
    assert summarised(label_B, log_p_BC).auroc_bound < 0.005
    same_bin = np.log([[0.4999, 0.5001], [0.4998, 0.5002]])
    found = summarised(np.array([0, 1]), same_bin)
    assert (found.auroc, found.auroc_bound) == (0.5, 0.5), "the true one is 1: off by all of the bound"


def test_certain_predictions_have_scores():
    certain = np.array([[0.0, -np.inf], [-np.inf, 0.0], [0.0, -800.0], [-800.0, 0.0]])
    found = summarised(np.array([0, 1, 0, 1]), certain)
    assert (found.accuracy, found.auroc, found.auroc_bound) == (1.0, 1.0, 0.0)


def test_no_pairs_no_auroc():
    histogram_2K = np.zeros((2, 8), dtype=np.int64)
    histogram_2K[1, 3] = 5
    assert auroc(histogram_2K) is None
