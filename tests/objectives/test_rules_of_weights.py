"""Weights of groups: each objective's rule at known risks, against the definition in its paper."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.config import Config
from remind.methods import methods_of
from remind.objectives.cvar import worst
from remind.objectives.weighting import WeightState

COUNTS = {1: 60, 2: 30, 4: 10}
RISKS = {1: 0.2, 2: 0.5, 4: 0.9}


def objective(text):
    return methods_of(Config.from_flat({"method.objective": text})).objective


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("erm", {1: 0.6, 2: 0.3, 4: 0.1}),
        ("balanced", {1: 1 / 3, 2: 1 / 3, 4: 1 / 3}),
        ("reweigh", {1: 1 / 3, 2: 1 / 3, 4: 1 / 3}),
        ("fairbatch", {1: 0.6, 2: 0.3, 4: 0.1}),
        ("logit_adjustment", {1: 0.6, 2: 0.3, 4: 0.1}),
    ],
)
def test_weights_before_the_first_round(text, expected):
    assert objective(text).initial(COUNTS).weights == pytest.approx(expected)


def test_square_roots():
    weights = objective("balanced(towards = 'sqrt')").initial(COUNTS).weights
    assert weights[1] / weights[4] == pytest.approx(6**0.5)


@pytest.mark.parametrize("text", ["erm", "balanced", "reweigh", "lisa", "fairmixup", "logit_adjustment", "jtt", "dfr"])
def test_fixed_weights_do_not_move(text):
    one = objective(text)
    assert one.update(one.initial(COUNTS), RISKS, COUNTS, 20) == one.initial(COUNTS)


@pytest.mark.parametrize("text", ["erm", "balanced", "reweigh", "groupdro", "cvar", "fairbatch"])
def test_newcomers_leave_a_point_of_the_simplex(text):
    one, more = objective(text), COUNTS | {8: 100}
    state = one.admit(one.update(one.initial(COUNTS), RISKS, COUNTS, 5), more)
    assert set(state.weights) == set(more)
    assert sum(state.weights.values()) == pytest.approx(1)
    if text == "erm":
        assert state.weights[8] == pytest.approx(0.5)


def cvar_by_brute_force(risks, alpha):
    """max λ·R over the vertices of {λ ≤ 1/(αG), Σ λ = 1}: all coordinates but one at 0 or at the cap."""
    cap, best = 1 / (alpha * len(risks)), -np.inf
    for full in itertools.product((0.0, cap), repeat=len(risks)):
        for free in range(len(risks)):
            rest = 1 - (sum(full) - full[free])
            if -1e-12 <= rest <= cap + 1e-12:
                best = max(
                    best, sum(w * r for w, r in zip(full, risks, strict=True)) + (rest - full[free]) * risks[free]
                )
    return best


@given(risks=st.lists(st.floats(0, 10), min_size=1, max_size=6), alpha=st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0]))
def test_cvar_is_the_worst_case_of_its_definition(risks, alpha):
    weights = worst(dict(enumerate(risks)), alpha)
    assert sum(weights.values()) == pytest.approx(1)
    assert max(weights.values()) <= max(1 / (alpha * len(risks)), 1 / len(risks)) + 1e-9 or alpha * len(risks) < 1
    value = sum(weights[i] * r for i, r in enumerate(risks))
    if alpha * len(risks) >= 1:
        assert value == pytest.approx(cvar_by_brute_force(risks, alpha), abs=1e-9)
    else:
        assert value == pytest.approx(max(risks))


def test_cvar_of_known_risks():
    one = objective("cvar(alpha = 0.5)")
    state = one.update(one.initial(COUNTS), RISKS, COUNTS, 1)
    assert state.weights == pytest.approx({1: 0.0, 2: 1 / 3, 4: 2 / 3})
    later = one.update(state, {4: 0.0}, COUNTS, 1)
    assert later.weights == pytest.approx({1: 1 / 3, 2: 2 / 3, 4: 0.0}), "others' last risks are remembered"


def test_fairbatch_moves_alpha_from_the_best_group_to_the_worst():
    one = objective("fairbatch(alpha = 0.05)")
    state = one.initial(COUNTS)
    state = one.update(state, RISKS, COUNTS, 20)
    assert state.weights == pytest.approx({1: 0.55, 2: 0.3, 4: 0.15})
    for _ in range(20):
        state = one.update(state, RISKS, COUNTS, 20)
    assert state.weights[1] == 0.0
    assert sum(state.weights.values()) == pytest.approx(1)
    assert one.update(state, {2: 1.0}, COUNTS, 20) == state, "one group alone is neither best nor worst"


def test_groupdro_is_the_function():
    one = objective("groupdro")
    state = one.update(WeightState({1: 0.5, 2: 0.5}), {1: 1.0, 2: 0.0}, COUNTS, 10)
    assert state.weights[1] / state.weights[2] == pytest.approx(np.exp(0.02 * 10))


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 12, 50])
@pytest.mark.parametrize("text", ["erm", "jtt", "dfr", "jtt(identify = 0.9)", "dfr(retrain = 0.9)"])
def test_phases_cover_the_rounds_without_gaps(text, rounds):
    phases = objective(text).phases(rounds)
    assert [p.start for p in phases] == [sum(q.rounds for q in phases[:i]) for i in range(len(phases))]
    assert sum(p.rounds for p in phases) == rounds
    assert all(p.rounds > 0 for p in phases)


SILENCE = ["groupdro", "cvar(alpha = 0.5)", "cvar(alpha = 0.1)", "fairbatch(alpha = 0.5)", "erm", "reweigh"]
SILENT_RULES = [
    f"{rule}, units = 'groups')"
    for rule in (
        "afl(step = 0.3",
        "drfa(step = 0.3",
        "fgdro_kl(mu = 0.1",
        "fgdro_cvar(alpha = 0.5",
        "fgdro_cvar(alpha = 0.1",
    )
]


@pytest.mark.parametrize("text", SILENCE + SILENT_RULES)
def test_a_group_that_was_never_heard_of_keeps_its_weight(text):
    """Exactly, whatever the others report; they share the mass that they had."""
    key = "method.rule" if text in SILENT_RULES else "method.objective"
    methods = methods_of(Config.from_flat({"method.objective": "erm", key: text}))
    one: Any = methods.rule if text in SILENT_RULES else methods.objective
    state = one.initial(COUNTS)
    before = state.weights[4]
    for risks in ({1: 0.2, 2: 0.9}, {2: 0.1}, {}, {1: 3.0, 2: 0.1}):
        state = one.update(state, risks, COUNTS, 20)
        assert state.weights[4] == before
        assert sum(state.weights.values()) == pytest.approx(1, abs=1e-12)


def test_the_bound_of_cvar_counts_all_groups_heard_of_or_not():
    one = objective("cvar(alpha = 0.5)")
    counts = dict.fromkeys((1, 2, 4, 8), 10)
    state = one.update(one.initial(counts), {1: 1.0, 2: 0.0}, counts, 1)
    assert state.weights == pytest.approx({1: 0.5, 2: 0.0, 4: 0.25, 8: 0.25}), "λ_k ≤ 1/(α·G) = 0.5"
