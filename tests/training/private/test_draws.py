"""Draws of private steps: each patient at one rate whatever the group, weights capped, nobody a possible draw."""

import numpy as np
import pytest

from remind.training.private.draws import poisson_steps, relative_weights

SECRET = bytes(range(32))


def test_everybody_is_drawn_at_the_same_rate():
    index_N, group_N = np.arange(100, 140), np.array([1] * 35 + [2] * 5)
    steps = poisson_steps(index_N, group_N, {1: 0.5, 2: 4.0}, 0.2, 10_000, SECRET, "q")
    drawn_N = np.bincount(np.concatenate([step.index_B for step in steps]), minlength=140)[100:]
    assert np.abs(drawn_N / 10_000 - 0.2).max() < 4.5 * np.sqrt(0.2 * 0.8 / 10_000)
    sizes = np.array([len(step.index_B) for step in steps])
    assert sizes.var() == pytest.approx(40 * 0.2 * 0.8, rel=0.1)  # independent coins, no fixed size
    assert all(np.array_equal(step.weight_B, np.where(step.index_B < 135, 0.5, 4.0)) for step in steps[:20])


def test_a_step_of_nobody_is_a_step():
    steps = poisson_steps(np.arange(3), np.ones(3, dtype=np.int64), {1: 1.0}, 0.05, 200, SECRET, "q")
    assert len(steps) == 200
    assert sum(len(step.index_B) == 0 for step in steps) > 100
    assert len(poisson_steps(np.arange(0), np.arange(0), {}, 0.5, 4, SECRET, "q")) == 4


def test_a_rate_of_one_takes_everybody():
    (step,) = poisson_steps(np.arange(50), np.ones(50, dtype=np.int64), {1: 1.0}, 1.0, 1, SECRET, "q")
    np.testing.assert_array_equal(step.index_B, np.arange(50))


def test_draws_follow_the_secret_and_the_question():
    def draw(secret=SECRET, question="q"):
        steps = poisson_steps(np.arange(60), np.ones(60, dtype=np.int64), {1: 1.0}, 0.3, 3, secret, question)
        return [step.index_B.tolist() for step in steps]

    assert draw() == draw()
    assert draw() != draw(secret=bytes(32))
    assert draw() != draw(question="r")


def test_weights_are_relative_to_plain_averaging_and_capped():
    counts, own = {1: 900, 2: 90, 3: 10}, {1: 300, 2: 30, 3: 10}
    plain = relative_weights({k: n / 1000 for k, n in counts.items()}, counts, own, 8.0)
    assert plain == pytest.approx({1: 1.0, 2: 1.0, 3: 1.0})
    uniform = relative_weights(dict.fromkeys(counts, 1 / 3), counts, own, 1e9)
    mean = sum(uniform[k] * own[k] for k in own) / sum(own.values())
    assert mean == pytest.approx(1.0)
    assert uniform[3] / uniform[1] == pytest.approx(90.0)
    assert relative_weights(dict.fromkeys(counts, 1 / 3), counts, own, 2.0) == pytest.approx(
        {k: min(r, 2.0) for k, r in uniform.items()}
    )
