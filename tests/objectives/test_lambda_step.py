"""λ updates: the loop of Eq. 4, the simplex, absent groups (invariant 5)."""

import math
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.config import Config
from remind.methods import methods_of
from remind.metrics.statistics import GroupLoss, merge
from remind.objectives.lambda_step import admit, floored, initial_weights, risks, site_share, update_weights

RISKS = st.dictionaries(st.integers(1, 200), st.floats(0, 50), min_size=1, max_size=8)


def spread(groups, seed):
    raw = {g: 1 + (g * 7919 + seed) % 13 for g in groups}
    return {g: v / sum(raw.values()) for g, v in raw.items()}


@given(risk_of=RISKS, gamma=st.floats(0, 2), seed=st.integers(0, 100))
def test_equals_the_loop_when_all_report(risk_of, gamma, seed):
    weights = spread(risk_of, seed)
    updated = update_weights(weights, risk_of, gamma)
    total = 0.0
    for k in risk_of:
        total += weights[k] * math.exp(gamma * risk_of[k])
    for k in risk_of:
        assert updated[k] == pytest.approx(weights[k] * math.exp(gamma * risk_of[k]) / total, abs=1e-10)


@given(risk_of=RISKS, gamma=st.floats(0, 100), seed=st.integers(0, 100), absent=st.sets(st.integers(201, 210)))
def test_stays_on_the_simplex_and_absent_groups_keep_their_odds(risk_of, gamma, seed, absent):
    weights = spread([*risk_of, *absent], seed)
    updated = update_weights(weights, risk_of, gamma)
    assert sum(updated.values()) == pytest.approx(1, abs=1e-12)
    assert all(w >= 0 for w in updated.values())
    assert all(updated[k] == weights[k] for k in absent), "exactly: λ_k, so λ_k/(1 − λ_k), does not move"


def test_huge_exponents_do_not_overflow():
    updated = update_weights({1: 0.5, 2: 0.5}, {1: 1e4, 2: 0.0}, 10.0)
    assert updated[1] == 1.0
    assert 0 < updated[2] < 1e-200


@given(
    risk_of=st.dictionaries(st.integers(1, 50), st.floats(0, 1e12), min_size=1, max_size=8),
    gamma=st.floats(0, 100),
    most=st.floats(0.1, 20),
    seed=st.integers(0, 100),
)
def test_no_update_changes_log_odds_by_more_than_the_bound(risk_of, gamma, most, seed):
    weights = spread([*risk_of, 99], seed)
    updated = update_weights(weights, risk_of, gamma, most)
    assert sum(updated.values()) == pytest.approx(1, abs=1e-12)
    change = {k: math.log(updated[k] / weights[k]) for k in weights}
    assert max(change.values()) - min(change.values()) <= most * (1 + 1e-9) + 1e-9
    order = sorted(risk_of, key=risk_of.__getitem__)
    assert all(change[a] <= change[b] + 1e-9 for a, b in pairwise(order)), "who has the higher risk gains no less"
    if gamma * (max(risk_of.values()) - min(risk_of.values())) <= most:
        free = update_weights(weights, risk_of, gamma)
        assert all(updated[k] == pytest.approx(free[k], rel=1e-9) for k in weights), "nothing else is touched"


def test_one_false_risk_moves_itself_and_not_the_order_of_the_others():
    weights = dict.fromkeys((1, 2, 3, 4), 0.25)
    honest = update_weights(weights, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.3}, 1.0)
    attacked = update_weights(weights, {1: 0.1, 2: 0.2, 3: 0.3, 4: 1e12}, 1.0, 5.0)
    assert attacked[4] / attacked[1] == pytest.approx(math.exp(5.0))
    assert attacked[2] / attacked[1] == pytest.approx(honest[2] / honest[1])
    assert attacked[3] / attacked[1] == pytest.approx(honest[3] / honest[1])


def test_nobody_reporting_changes_nothing():
    assert update_weights({1: 0.3, 2: 0.7}, {}, 1.0) == {1: 0.3, 2: 0.7}


def test_order_of_groups_and_sites_does_not_matter():
    parts = [{1: GroupLoss(3, 1.5), 2: GroupLoss(2, 0.25)}, {2: GroupLoss(4, 3.0)}, {1: GroupLoss(1, 0.5)}]
    results = set()
    for order in permutations(parts):
        risk_of = risks(merge(dict(reversed(p.items())) for p in order), {1: 4, 2: 6})
        results.add(tuple(sorted(update_weights({2: 0.25, 1: 0.75}, risk_of, 0.4).items())))
    assert len(results) == 1


def test_risk_is_a_mean_over_patients_never_a_mean_of_site_means():
    merged = merge([{1: GroupLoss(1, 10.0)}, {1: GroupLoss(99, 0.0)}])
    assert risks(merged, {1: 100})[1] == pytest.approx(0.1)


def test_adjustment_adds_more_to_rare_groups():
    found = risks({1: GroupLoss(4, 0.0), 2: GroupLoss(100, 0.0)}, {1: 4, 2: 100}, adjustment=1.0)
    assert found == {1: 0.5, 2: 0.1}


def test_gap_of_a_tenth_doubles_odds_after_347_updates():
    weights = {1: 0.5, 2: 0.5}
    for updates in range(1, 348):
        weights = update_weights(weights, {1: 0.4, 2: 0.3}, 0.02)
        if updates == 346:
            assert weights[1] / weights[2] < 2
    assert weights[1] / weights[2] >= 2


def test_initial_weights():
    assert initial_weights({3: 1, 1: 3}) == {1: 0.5, 3: 0.5}
    assert initial_weights({3: 1, 1: 3}, "proportional") == {1: 0.75, 3: 0.25}


def test_newcomers_get_an_equal_share_and_the_others_keep_their_odds():
    grown = admit({1: 0.6, 2: 0.2, 4: 0.2}, {1: 5, 8: 2})
    assert grown[8] == pytest.approx(1 / 4)
    assert grown[1] / grown[2] == pytest.approx(3)
    assert sum(grown.values()) == pytest.approx(1)


def test_shares_of_all_sites_sum_to_one():
    sites = [{1: 3, 2: 1}, {2: 5}, {1: 1, 4: 2}]
    counts = {1: 4, 2: 6, 4: 2}
    weights = {1: 0.2, 2: 0.5, 4: 0.3}
    assert sum(site_share(weights, counts, own) for own in sites) == pytest.approx(1, abs=1e-12)


@given(risk_of=RISKS, seed=st.integers(0, 100), share=st.floats(0, 0.99), absent=st.sets(st.integers(201, 210)))
def test_a_floor_is_kept_and_nothing_else_changes(risk_of, seed, share, absent):
    weights = spread([*risk_of, *absent], seed)
    least = {k: share * weights[k] for k in risk_of}
    updated = update_weights(weights, risk_of, 3.0)
    held = floored(updated, least)
    assert sum(held.values()) == pytest.approx(1, abs=1e-12)
    assert all(held[k] >= least[k] - 1e-15 for k in risk_of)
    assert all(held[k] == weights[k] for k in absent)
    free = [k for k in risk_of if held[k] > least[k] * (1 + 1e-9)]
    for a, b in pairwise(free):  # those above the floor keep their odds among themselves
        assert held[a] * updated[b] == pytest.approx(held[b] * updated[a], abs=1e-12)
    if all(updated[k] >= least[k] for k in risk_of):
        assert held == pytest.approx(updated, abs=1e-15)


def test_a_floor_brings_back_a_weight_of_zero():
    assert floored({1: 1.0, 2: 0.0}, {1: 0.1, 2: 0.1}) == pytest.approx({1: 0.9, 2: 0.1})


def test_floors_beyond_what_there_is_are_shared_out():
    assert floored({1: 0.2, 2: 0.2, 3: 0.6}, {1: 0.6, 2: 0.2}) == pytest.approx({1: 0.3, 2: 0.1, 3: 0.6})


def objective(**settings):
    flat = {f"dro.{key}": value for key, value in settings.items()}
    return methods_of(Config.from_flat(flat)).objective


def test_the_run_keeps_its_floor_over_many_rounds():
    dro, counts = objective(gamma=1.0, floor=0.25, initial="proportional"), {1: 60, 2: 30, 3: 10}
    state = dro.initial(counts)
    for _ in range(50):
        state = dro.update(state, {1: 0.1, 2: 0.1, 3: 5.0}, counts, 20)
    assert state.weights == pytest.approx({1: 0.15, 2: 0.075, 3: 0.775})


def test_regret_goes_by_what_a_group_has_lost_of_its_best():
    dro, counts = objective(gamma=0.1, regret=True), {1: 5, 2: 5}
    state = dro.initial(counts)
    first = dro.update(state, {1: 9.0, 2: 0.1}, counts, 1)
    assert first.weights == state.weights, "hard is not yet neglected"
    second = dro.update(first, {1: 8.0, 2: 0.1}, counts, 1)
    assert second.weights == state.weights, "nor is what still gets better"
    third = dro.update(second, {1: 8.0, 2: 1.1}, counts, 1)
    assert third.weights == pytest.approx(update_weights(state.weights, {1: 0.0, 2: 1.0}, 0.1))
    fourth = dro.update(third, {2: 1.1}, counts, 1)
    assert fourth.weights[1] == third.weights[1], "a group without a report keeps its weight, and its best"
    assert fourth.memory == {1: 8.0, 2: 0.1}


@pytest.mark.parametrize("text", ["groupdro", "fgdro_kl(mu = 0.01, beta = 1.0)"])
def test_what_has_fallen_below_all_numbers_comes_back(text):
    """λ = exp(−4000) is no float; the state knows it, shows a λ above 0, and it climbs as fast as it fell."""
    name, changes = ("method.objective", {}) if text == "groupdro" else ("method.rule", {"method.objective": "erm"})
    settings = {"dro.gamma": 10.0, "dro.max-log-odds-step": 100.0, name: text} | changes
    methods = methods_of(Config.from_flat(settings))
    one: Any = methods.objective if text == "groupdro" else methods.rule
    counts = {1: 5, 2: 5}
    state = one.initial(counts)
    for _ in range(40):
        state = one.update(state, {1: 40.0, 2: 0.0}, counts, 10)
        assert all(0 < w <= 1 for w in state.weights.values())
        assert sum(state.weights.values()) == pytest.approx(1, abs=1e-9)
    assert state.weights[2] < 1e-290
    for _ in range(41):
        state = one.update(state, {1: 0.0, 2: 40.0}, counts, 10)
    assert state.weights[2] > 0.99


def test_the_run_bounds_what_one_round_does():
    dro, counts = objective(), {1: 5, 2: 5, 3: 5}
    state = dro.initial(counts)
    for risk in (1e12, 1e12, 0.0):
        after = dro.update(state, {1: risk, 2: 0.3, 3: 0.2}, counts, 20)
        change = [math.log(after.weights[k] / state.weights[k]) for k in counts]
        assert max(change) - min(change) <= 5.0 + 1e-9
        state = after
    assert objective().config.dro.max_log_odds_step == 5.0


def test_newcomers_after_updates_leave_the_others_their_odds():
    dro, counts = objective(), {1: 5, 2: 5}
    state = dro.update(dro.initial(counts), {1: 1.0, 2: 0.0}, counts, 20)
    grown = dro.admit(state, counts | {4: 3})
    assert grown.weights[4] == pytest.approx(1 / 3)
    later = dro.update(grown, {1: 1.0, 2: 0.0}, counts, 20)
    assert math.log(later.weights[1] / later.weights[2]) == pytest.approx(0.8)
    assert later.weights[4] == grown.weights[4]


@given(
    counts=st.dictionaries(st.integers(1, 50), st.integers(1, 5000), min_size=1, max_size=12),
    prior=st.floats(0.1, 1000),
)
def test_shrunk_weights_lie_between_size_and_uniform(counts, prior):
    shrunk, size = initial_weights(counts, "shrunk", prior), initial_weights(counts, "proportional")
    assert sum(shrunk.values()) == pytest.approx(1, abs=1e-12)
    assert initial_weights(counts, "shrunk", 1e-9) == pytest.approx(initial_weights(counts, "uniform"), rel=1e-6)
    assert initial_weights(counts, "shrunk", 1e12) == pytest.approx(size, rel=1e-6)
    rarest, commonest = min(counts, key=lambda k: counts[k]), max(counts, key=lambda k: counts[k])
    assert shrunk[rarest] >= size[rarest] - 1e-12
    assert shrunk[commonest] <= size[commonest] + 1e-12


def test_shrunk_weights_by_hand():
    # r = 10/20 and 90/100: 0.5·0.5 + 0.5·0.1 = 0.30 and 0.9·0.5 + 0.1·0.9 = 0.54, of 0.84 in all
    assert initial_weights({1: 10, 2: 90}, "shrunk", 10.0) == pytest.approx({1: 0.30 / 0.84, 2: 0.54 / 0.84})


def test_the_objective_uses_the_prior():
    config = Config.from_flat({"dro.initial": "shrunk", "dro.prior": 10.0})
    weights = methods_of(config).objective.initial({1: 10, 2: 90}).weights
    assert weights == pytest.approx({1: 0.30 / 0.84, 2: 0.54 / 0.84})
