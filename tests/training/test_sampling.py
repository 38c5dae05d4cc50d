"""Sampling plans: whatever the plan, the expected weighted gradient is that of F_s / W_s (algorithm §3, §4.13)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.config import TrainConfig
from remind.objectives.lambda_step import site_share
from remind.training.sampling import _Deck, steps

GROUP_N = np.array([1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 6])
INDEX_N = np.arange(100, 111)
OWN = {1: 7, 3: 3, 6: 1}
COUNTS = {1: 20, 3: 5, 6: 1}
WEIGHTS = {1: 0.2, 3: 0.5, 6: 0.2}  # λ of the site's groups; 0.1 lies elsewhere


def target() -> np.ndarray:
    """λ_k / n_k / W_s of each patient, by a loop."""
    share = 0.0
    for k, n in OWN.items():
        share += WEIGHTS[k] * n / COUNTS[k]
    return np.array([WEIGHTS[k] / COUNTS[k] / share for k in GROUP_N.tolist()])


def plan(seed=0, **changes):
    config = TrainConfig(**({"batch": 4, "local_steps": 3} | changes))
    return list(steps(config, INDEX_N, GROUP_N, WEIGHTS, COUNTS, np.random.default_rng(seed)))


def weight_per_patient(step) -> np.ndarray:
    total = np.zeros(len(INDEX_N))
    np.add.at(total, step.index_B - 100, step.weight_B)
    return total


def test_full_batch_is_exact():
    taken = plan(batch=0)
    assert len(taken) == 3
    for step in taken:
        np.testing.assert_allclose(weight_per_patient(step), target(), rtol=1e-14)


@pytest.mark.parametrize("sampling", ["group", "weighted"])
def test_mean_over_many_draws_is_the_objective(sampling):
    many = plan(batch=5, local_steps=20_000, sampling=sampling)
    drawn = np.array([weight_per_patient(step) for step in many])
    error = drawn.std(axis=0) / np.sqrt(len(many))
    assert (np.abs(drawn.mean(axis=0) - target()) < 4.5 * error).all()
    assert error.max() < 0.01, "else the test could not fail"


@pytest.mark.parametrize("sampling", ["group", "weighted"])
@pytest.mark.parametrize("batch", [1, 4, 11, 30])
def test_every_step_has_the_size_asked_for(sampling, batch):
    taken = plan(batch=batch, local_steps=5, sampling=sampling)
    assert [len(step.index_B) for step in taken] == [batch] * 5
    assert all(len(step.weight_B) == batch for step in taken)


def test_the_same_generator_draws_the_same():
    a, b, c = plan(1), plan(1), plan(2)
    assert all(np.array_equal(x.index_B, y.index_B) for x, y in zip(a, b, strict=True))
    assert any(not np.array_equal(x.index_B, y.index_B) for x, y in zip(a, c, strict=True))


@given(scale=st.floats(1e-6, 1.0))
def test_only_odds_within_the_site_matter(scale):
    """The plan is of F_s / W_s: with all λ of the site smaller by a factor it is the same."""
    smaller = {k: w * scale for k, w in WEIGHTS.items()}
    config = TrainConfig(batch=0, local_steps=1)
    (step,) = steps(config, INDEX_N, GROUP_N, smaller, COUNTS, np.random.default_rng(0))
    np.testing.assert_allclose(step.weight_B, target(), rtol=1e-9)


@pytest.mark.parametrize("changes", [{"batch": 0}, {"sampling": "group"}, {"sampling": "weighted"}])
def test_a_site_whose_groups_have_lost_all_weight_takes_no_steps(changes):
    config = TrainConfig(**({"batch": 4, "local_steps": 3} | changes))
    gone = dict.fromkeys(WEIGHTS, 0.0)
    assert site_share(gone, COUNTS, OWN) == 0
    assert list(steps(config, INDEX_N, GROUP_N, gone, COUNTS, np.random.default_rng(0))) == []


def test_a_group_without_weight_is_not_drawn():
    config = TrainConfig(batch=8, local_steps=50, sampling="group")
    taken = steps(config, INDEX_N, GROUP_N, WEIGHTS | {3: 0.0}, COUNTS, np.random.default_rng(0))
    assert not any(np.isin(step.index_B, INDEX_N[GROUP_N == 3]).any() for step in taken)


@given(cards=st.integers(1, 9), draws=st.lists(st.integers(0, 25), max_size=12), seed=st.integers(0, 999))
def test_deck_shows_each_card_once_before_any_comes_again(cards, draws, seed):
    deck = _Deck(np.arange(cards), np.random.default_rng(seed))
    shown = np.concatenate([deck.draw(n) for n in draws] or [np.arange(0)])
    assert len(shown) == sum(draws)
    for start in range(0, len(shown), cards):
        hand = shown[start : start + cards].tolist()
        assert len(set(hand)) == len(hand)
