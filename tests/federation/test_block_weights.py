"""Weights of sites per block: they sum to 1 when all take part, and equal the definitions of algorithm §3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.federation.block_weights import block_weights
from remind.federation.install import gradient_scale
from remind.objectives.lambda_step import update_weights

COUNTS = st.dictionaries(st.integers(1, 15), st.integers(1, 50), min_size=1, max_size=6)
BITS = {"a": 0, "b": 1, "c": 2, "d": 3}


def everywhere(sites):
    counts: dict[int, int] = {}
    for own in sites:
        for k, n in own.items():
            counts[k] = counts.get(k, 0) + n
    raw = {k: 1 + k % 4 for k in counts}
    return counts, {k: v / sum(raw.values()) for k, v in raw.items()}


def masses_of(weights, counts, own):
    """Masses of a site where groups span sites: λ_k·n_{s,k}/n_k."""
    return {k: weights[k] * n / counts[k] for k, n in own.items()}


def spanning(weights, counts, own, bits=None):
    return block_weights(masses_of(weights, counts, own), weights, own, counts, bits)


@given(sites=st.lists(COUNTS, min_size=1, max_size=5))
def test_each_block_sums_to_one_over_all_sites(sites):
    counts, weights = everywhere(sites)
    summed: dict[str, float] = {}
    for own in sites:
        for block, weight in spanning(weights, counts, own, BITS).items():
            summed[block] = summed.get(block, 0.0) + weight
    has = {m for m, bit in BITS.items() if any(k >> bit & 1 for k in counts)}
    assert set(summed) == {"shared", *(f"group:{k}" for k in counts), *(f"encoder:{m}" for m in has)}
    assert all(total == pytest.approx(1, abs=1e-12) for total in summed.values())


@given(sites=st.lists(COUNTS, min_size=1, max_size=5))
def test_equal_the_loop(sites):
    counts, weights = everywhere(sites)
    for own in sites:
        found = spanning(weights, counts, own, BITS)
        expected = {"shared": 0.0}
        for k, n in own.items():
            expected["shared"] += weights[k] * n / counts[k]
            expected[f"group:{k}"] = n / counts[k]
        for modality, bit in BITS.items():
            mine = sum(weights[k] * n / counts[k] for k, n in own.items() if k & 1 << bit)
            all_ = sum(weights[k] for k in counts if k & 1 << bit)
            if mine:
                expected[f"encoder:{modality}"] = mine / all_
        assert found == pytest.approx(expected)


def test_local_encoders_have_no_weight():
    assert set(spanning({1: 1.0}, {1: 4}, {1: 4})) == {"shared", "group:1"}


def test_a_group_that_weighs_nothing_any_more_is_averaged_by_patients():
    found = spanning({1: 1.0, 2: 0.0}, {1: 4, 2: 4}, {1: 2, 2: 1}, {"a": 0, "b": 1})
    assert found == {"shared": 0.5, "group:1": 0.5, "group:2": 0.25, "encoder:a": 0.5}


def test_gradients_are_scaled_by_share_over_block_weight():
    names = ["fusion.head.weight", "fusion.groups.3.missing_D", "fusion.groups.4.missing_D", "encoders.a.w"]
    found = gradient_scale(names, 0.5, {"shared": 0.5, "group:3": 0.2, "group:4": 0.0, "encoder:a": 1.0})
    assert found == {"fusion.groups.3.missing_D": 2.5, "encoders.a.w": 0.5}


def test_what_never_travels_has_the_whole_weight_of_its_block():
    """a_s = 1: the gradient of F_s, not of F_s / W_s."""
    found = gradient_scale(["fusion.head.weight"], 0.25, {"shared": 0.25}, ["encoders.a.w"])
    assert found == {"encoders.a.w": 0.25}


def test_a_weight_that_has_come_to_zero_stays_there_and_harms_nobody():
    """Its risk, the highest of all, must not push every other group's exponential below what a float can hold."""
    assert update_weights({1: 0.0, 2: 0.25, 3: 0.75}, {1: 1e4, 2: 1.0, 3: 1.0}, 10.0) == {1: 0.0, 2: 0.25, 3: 0.75}
