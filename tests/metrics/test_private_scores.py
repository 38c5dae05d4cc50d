"""Scores under a privacy guarantee: a coarse histogram with noise, whole numbers, and what follows from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.federation.message_statistics import Evaluation
from remind.metrics.private_scores import BINS, coarse, noisy_statistics, whole
from remind.metrics.statistics import collect
from remind.privacy.noise import Randomness

SECRET = bytes(range(32))


def exact(p_N, label_N, group=3):
    p_N, label_N = np.asarray(p_N, dtype=float), np.asarray(label_N)
    log_p = np.log(np.stack([1 - p_N, p_N], axis=1))
    zeros = np.zeros(len(p_N))
    return collect(np.full(len(p_N), group), label_N, zeros, log_p, zeros)


def noisy(statistics, said=(3,), noise=1e-9, least=1, question="q"):
    return noisy_statistics(statistics, said, noise, least, Randomness(SECRET, question, "scores"))


def patients(n, seed=0):
    rng = np.random.default_rng(seed)
    label_N = rng.random(n) < 0.3
    return 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * label_N - 1))), label_N.astype(int)


def test_without_noise_the_coarse_histogram_is_that_of_the_patients():
    p_N, label_N = patients(500)
    table_2K = np.zeros((2, BINS))
    np.add.at(table_2K, (label_N, (p_N * BINS).astype(int)), 1)
    assert np.abs(coarse(exact(p_N, label_N)[3]) - table_2K).sum() <= 6, "a score at an edge may be on either side"
    assert noisy(exact(p_N, label_N))[3].count == 500


def test_one_patient_more_moves_one_cell_by_one():
    p_N, label_N = patients(200)
    one, other = coarse(exact(p_N, label_N)[3]), coarse(exact(p_N[:-1], label_N[:-1])[3])
    assert np.abs(one - other).sum() == 1


def test_statistics_are_valid_messages_and_repeat_for_the_same_question_alone():
    found = noisy(exact(*patients(500)), noise=3.0)
    Evaluation.of(found[3])
    assert Evaluation.of(found[3]) == Evaluation.of(noisy(exact(*patients(500)), noise=3.0)[3])
    assert Evaluation.of(found[3]) != Evaluation.of(noisy(exact(*patients(500)), noise=3.0, question="other")[3])


def test_a_combination_with_few_patients_or_none_is_left_out_by_its_noisy_number():
    statistics = exact(*patients(150))
    assert noisy(statistics, least=151) == {}
    assert noisy(statistics, said=(5,), least=20) == {}, "said, yet without patients here"
    assert noisy(statistics, said=()) == {}, "not said"


def test_noise_has_the_deviation_that_is_paid_for():
    found = [noisy({}, noise=5.0, least=1, question=str(i)) for i in range(400)]
    totals = [one[3].count if one else 0 for one in found]
    above = np.array([t for t in totals if t > 0])
    assert 0.4 < len(above) / len(totals) < 0.6  # of a sum of 32 cells around 0
    assert np.sqrt((above.astype(float) ** 2).mean()) == pytest.approx(5 * np.sqrt(2 * BINS), rel=0.15)


@given(st.lists(st.integers(-20, 60), min_size=2 * BINS, max_size=2 * BINS))
def test_whole_numbers_are_none_negative_and_add_up(values):
    noisy_2K = np.array(values, dtype=float).reshape(2, BINS)
    found = whole(noisy_2K)
    assert (found >= 0).all()
    assert found.sum() == max(0, noisy_2K.sum())


def test_what_is_a_histogram_already_stays():
    table = np.arange(2.0 * BINS).reshape(2, BINS)
    assert np.array_equal(whole(table), table)
