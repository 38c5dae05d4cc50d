import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from remind_studies.analysis.bootstrap import Prediction, gains, weighted_auroc


def prediction(seed, n=60, classes=2, skill=1.0):
    rng = np.random.default_rng(seed)
    label_N = rng.integers(classes, size=n)
    logits_NC = rng.normal(size=(n, classes)) + skill * np.eye(classes)[label_N]
    return Prediction(logits_NC - np.log(np.exp(logits_NC).sum(axis=1, keepdims=True)), label_N)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_weighted_auroc_is_that_of_scikit_learn(seed, ties):
    rng = np.random.default_rng(seed)
    score_N = rng.integers(4, size=20).astype(float) if ties else rng.normal(size=20)
    positive_N = np.array([True, False, *(rng.random(18) < 0.4)])
    weight_RN = rng.integers(1, 4, size=(3, 20)).astype(float)
    expected = [roc_auc_score(positive_N, score_N, sample_weight=weight_N) for weight_N in weight_RN]
    assert weighted_auroc(score_N, positive_N, weight_RN).tolist() == pytest.approx(expected)


def test_auroc_without_a_class_is_undefined():
    weight_RN = np.array([[1.0, 1, 0, 0], [1, 1, 1, 1]])
    found_R = weighted_auroc(np.array([1.0, 2, 3, 4]), np.array([False, False, True, True]), weight_RN)
    assert np.isnan(found_R[0])
    assert found_R[1] == 1


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_and_gains_are_those_of_scikit_learn(classes):
    full, hidden = prediction(1, classes=classes), prediction(2, classes=classes, skill=0.2)
    hidden = Prediction(hidden.log_p_NC, full.label_N)
    found = gains(full, hidden, np.arange(60).astype(str), seed=0)

    def auroc(p):
        if classes == 2:
            return roc_auc_score(p.label_N, p.log_p_NC[:, 1])
        return np.mean([roc_auc_score(p.label_N == c, p.log_p_NC[:, c]) for c in range(classes)])

    assert found["auroc"].seen == pytest.approx(auroc(full))
    assert found["auroc"].gain == pytest.approx(auroc(full) - auroc(hidden))
    assert found["accuracy"].hidden == pytest.approx(accuracy_score(hidden.label_N, hidden.log_p_NC.argmax(axis=1)))
    losses = [log_loss(p.label_N, np.exp(p.log_p_NC)) for p in (full, hidden)]
    assert found["loss"].gain == pytest.approx(losses[1] - losses[0])
    assert all(gain.low <= gain.gain <= gain.high for gain in found.values())


def test_the_same_prediction_gains_nothing():
    full = prediction(3)
    for gain in gains(full, full, np.arange(60).astype(str), seed=0).values():
        assert (gain.gain, gain.low, gain.high) == (0, 0, 0)


def test_swapping_the_predictions_turns_the_interval_round():
    one, other = prediction(4), prediction(5)
    other = Prediction(other.log_p_NC, one.label_N)
    person_N = np.arange(60).astype(str)
    there, back = gains(one, other, person_N, seed=7), gains(other, one, person_N, seed=7)
    for name, gain in there.items():
        assert (back[name].low, back[name].high) == pytest.approx((-gain.high, -gain.low))


def test_visits_of_a_person_are_drawn_together():
    """Twice the visits of the same persons tell nothing new: the interval stays as it was."""
    one, other = prediction(6), prediction(7)
    other = Prediction(other.log_p_NC, one.label_N)
    person_N = np.arange(60).astype(str)
    single = gains(one, other, person_N, seed=1)
    twice = gains(
        Prediction(np.tile(one.log_p_NC, (2, 1)), np.tile(one.label_N, 2)),
        Prediction(np.tile(other.log_p_NC, (2, 1)), np.tile(one.label_N, 2)),
        np.tile(person_N, 2),
        seed=1,
    )
    for name, gain in single.items():
        assert (twice[name].low, twice[name].high) == pytest.approx((gain.low, gain.high))


def test_the_interval_of_the_accuracy_is_as_wide_as_theory_says():
    """Gains of −1, 0, 1 per patient: the standard error of their mean is s/√n."""
    one, other = prediction(8, n=400), prediction(9, n=400)
    other = Prediction(other.log_p_NC, one.label_N)
    found = gains(one, other, np.arange(400).astype(str), seed=0)["accuracy"]
    half = 1.96 * (one.correct_N - other.correct_N).std() / 20
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_few_persons_have_no_interval_and_one_class_no_auroc():
    one = prediction(10, n=9)
    found = gains(one, one, np.arange(9).astype(str), seed=0)
    assert found["accuracy"].low is None
    alike = Prediction(one.log_p_NC, np.zeros(9, dtype=np.int64))
    assert gains(alike, alike, np.arange(9).astype(str), seed=0)["auroc"] is None


def test_no_interval_where_many_resamples_lack_a_class():
    one = prediction(11, n=20)
    rare = Prediction(one.log_p_NC, np.array([1] + [0] * 19))
    found = gains(rare, rare, np.arange(20).astype(str), seed=0)
    assert found["auroc"].low is None
    assert found["loss"].low is not None
