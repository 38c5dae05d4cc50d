"""A hospital's own models: no model scores a patient that it was fitted on, and storing changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from remind.encoders.alone import learners as learners_module
from remind.encoders.alone.crossfit import FOLDS, LEAST, CrossFitted, row_digests, trusted
from remind.errors import UserError

LEVELS = (0, 0, 0, 0, 0, 3)
BOTH = ("trees", "linear")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(learners_module, "TREES", 25)


def patients(number=200, signal=True, seed=0):
    rng = np.random.default_rng(seed)
    rows_RX = rng.normal(size=(number, 6)).astype(np.float32)
    rows_RX[:, 5] = rng.integers(3, size=number)
    rows_RX[rng.random(rows_RX.shape) < 0.1] = np.nan
    risk_R = np.nan_to_num(rows_RX[:, 0]) * 2 + (rows_RX[:, 5] == 1) if signal else rng.normal(size=number)
    return rows_RX, (risk_R + rng.normal(size=number) * 0.5 > 0).astype(np.int64)


def fit(rows, label, classes=2, seed=0, fold_of=None, learners=BOTH):
    return CrossFitted.fit(learners, rows, label, classes, LEVELS, seed, fold_of)


def area(score_P, label_P):
    wins = score_P[label_P == 1][:, None] - score_P[label_P == 0]
    return float(((wins > 0) + 0.5 * (wins == 0)).mean())


def odds(fitted, rows):
    score_PC = fitted.scores(rows)
    return score_PC[:, 1] - score_PC[:, 0]


@pytest.mark.parametrize("learners", [("trees",), ("linear",), BOTH])
def test_scores_know_the_signal_on_training_and_on_new_patients(learners):
    rows, label = patients()
    fitted = fit(rows, label, learners=learners)
    new_rows, new_label = patients(seed=1)
    assert area(odds(fitted, rows), label) > 0.85
    assert area(odds(fitted, new_rows), new_label) > 0.85


def test_labels_without_signal_give_chance_and_no_optimism_in_training():
    """A model that had seen a patient's label would score the training patients far above chance."""
    training, held_out, seen = [], [], []
    for seed in range(4):
        rows, label = patients(300, signal=False, seed=seed)
        new_rows, new_label = patients(300, signal=False, seed=100 + seed)
        fitted = fit(rows, label, seed=seed)
        training.append(area(odds(fitted, rows), label))
        held_out.append(area(odds(fitted, new_rows), new_label))
        forgetful = CrossFitted.from_bytes(fitted.to_bytes())
        forgetful.fold_of.clear()  # the mistake: nobody is known as a training patient
        seen.append(area(odds(forgetful, rows), label))
    assert np.mean(training) == pytest.approx(0.5, abs=0.06)
    assert np.mean(held_out) == pytest.approx(0.5, abs=0.06)
    assert np.mean(seen) > 0.7, "the test sees the leak"


def test_a_patients_own_label_does_not_reach_the_patients_score():
    rows, label = patients()
    fold_of = dict(zip(row_digests(rows), (np.arange(len(rows)) % FOLDS).tolist(), strict=True))
    flipped = label.copy()
    flipped[7] = 1 - flipped[7]
    one, other = (fit(rows, y, fold_of=fold_of) for y in (label, flipped))
    assert one.trust == pytest.approx(other.trust, abs=0.05), "two numbers for all patients"
    other = replace(other, trust=one.trust)
    own_fold = np.arange(len(rows)) % FOLDS == 7 % FOLDS
    np.testing.assert_array_equal(odds(one, rows[own_fold]), odds(other, rows[own_fold]))
    assert not np.array_equal(odds(one, rows[~own_fold]), odds(other, rows[~own_fold]))


def test_equal_rows_share_a_fold():
    rows, label = patients(60)
    twice = np.concatenate([rows, rows])
    fitted = fit(twice, np.concatenate([label, 1 - label]))
    assert len(fitted.fold_of) == 60
    assert set(fitted.fold_of.values()) == set(range(FOLDS))


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_stored_scores_alike(classes):
    rows, label = patients()
    label = label + (np.nan_to_num(rows[:, 1]) > 0.5) * (classes - 2)
    fitted = fit(rows, label, classes)
    again = CrossFitted.from_bytes(fitted.to_bytes())
    for given in (rows, patients(seed=1)[0]):
        scores = fitted.scores(given)
        assert scores.shape == (len(given), classes)
        np.testing.assert_array_equal(again.scores(given), scores)
        np.testing.assert_array_equal(fitted.scores(given[::-1])[::-1], scores)
    assert fit(rows, label, classes).to_bytes() == fitted.to_bytes(), "deterministic"


@pytest.mark.parametrize("learners", [("trees",), ("linear",)])
def test_of_a_class_that_a_hospital_hardly_has_it_says_nothing(learners):
    rows, label = patients()
    label = label * 2
    label[: LEAST - 1] = 1
    fitted = fit(rows, label, 3, learners=learners)
    scores = fitted.scores(rows)
    assert not scores[:, 1].any()
    assert area(scores[LEAST:, 2] - scores[LEAST:, 0], label[LEAST:] // 2) > 0.8
    np.testing.assert_array_equal(CrossFitted.from_bytes(fitted.to_bytes()).scores(rows), scores)


def test_learners_are_trusted_as_far_as_they_serve_patients_they_have_not_seen():
    rng = np.random.default_rng(0)
    label_R = rng.integers(2, size=400)
    odds_R = 2.0 * (label_R - 0.5) + rng.normal(size=400) * 0.7
    noise_R = rng.normal(size=400) * 3
    held_out_JRC = np.stack([np.stack([-x / 2, x / 2], axis=1) for x in (odds_R, noise_R)])
    good, bad = trusted(held_out_JRC, label_R)
    assert good > 0.8
    assert bad < 0.05
    loud, _ = trusted(held_out_JRC * 10, label_R)
    assert loud < good / 2, "scores that are too certain are taken back"
    few_good, few_bad = trusted(held_out_JRC[:, :4], label_R[:4])
    assert abs(few_good - 0.5) + abs(few_bad - 0.5) < abs(good - 0.5) + abs(bad - 0.5), "few patients change little"


def test_too_few_patients_of_a_class_learn_nothing():
    rows, label = patients(60)
    label[:] = 0
    label[: LEAST - 1] = 1
    assert not fit(rows, label).scores(rows).any()
    assert not fit(rows, np.zeros(60, np.int64)).scores(rows).any()
    assert fit(rows[:0], label[:0]).scores(rows[:3]).shape == (3, 2)
    few = np.zeros((60, 6), dtype=np.float32)
    few[30:] = 1
    assert not fit(few, (few[:, 0] == 1).astype(np.int64)).scores(few).any(), "two different rows make two folds"
    assert CrossFitted().scores(rows[:0]).shape[0] == 0


def test_a_library_that_is_lacking_is_one_message():
    with pytest.raises(UserError, match=r"needs no_such_library, which is not installed; pip install .*\[alone\]"):
        learners_module._library("no_such_library.part")
