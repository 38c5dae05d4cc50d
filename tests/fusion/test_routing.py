"""Entropy, KL and the gate: loops, and the numeric check of REMIND.md §4.2."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.fusion.routing import gate_open, routing_entropy, routing_kl

PROFILE = [0.2, 0.2, 0.15, 0.1, 0.05] + [0.3 / 27] * 27


def logits_of(probabilities, tokens=1):
    return torch.tensor(probabilities, dtype=torch.float64).log().view(1, 1, -1, 1).repeat(1, tokens, 1, 1)


def test_numeric_check_of_the_paper():
    logits = logits_of(PROFILE)
    assert routing_entropy(logits).item() == pytest.approx(2.658, abs=1e-3)
    assert math.log(32) == pytest.approx(3.466, abs=1e-3)
    assert routing_kl(logits).item() == pytest.approx(0.807, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(1, 4), experts=st.integers(2, 5), slots=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_entropy_and_kl_equal_the_loop(tokens, experts, slots, seed):
    generator = torch.Generator().manual_seed(seed)
    logits_BMES = 3 * torch.randn(2, tokens, experts, slots, dtype=torch.float64, generator=generator)
    for b in range(2):
        entropies, kls = [], []
        for m in range(tokens):
            raised = [[math.exp(v) for v in row] for row in logits_BMES[b, m].tolist()]
            total = sum(map(sum, raised))
            p = [sum(row) / total for row in raised]
            entropies.append(-sum(v * math.log(v) for v in p))
            kls.append(sum(v * math.log(v * experts) for v in p))
        assert routing_entropy(logits_BMES)[b].item() == pytest.approx(sum(entropies) / tokens, abs=1e-10)
        assert routing_kl(logits_BMES)[b].item() == pytest.approx(sum(kls) / tokens, abs=1e-10)


def test_gate_is_strict_and_per_patient():
    uniform, sure = [1 / 4] * 4, [0.97, 0.01, 0.01, 0.01]
    logits = torch.cat([logits_of(uniform, 3), logits_of(sure, 3)])
    assert gate_open(logits, "entropy", 0.8).tolist() == [True, False]
    assert gate_open(logits, "kl", 0.1).tolist() == [True, False]
    assert gate_open(logits, "always", 0.8).tolist() == [True, True]
    assert gate_open(logits, "never", 0.8).tolist() == [False, False]
    half = logits_of([0.5, 0.5])
    assert not gate_open(half, "entropy", 1.0).any(), "H = ξ·ln E does not open: strictly above"


def test_entropy_and_kl_gates_at_their_paper_thresholds_disagree():
    logits = logits_of(PROFILE)  # H/ln E = .767 < .8 shuts the entropy gate, KL .807 > .1 the other
    between = logits_of([0.4, 0.2, 0.2, 0.2])  # H/ln E = .961, KL = .054
    apart = logits_of([0.55, 0.15, 0.15, 0.15])  # H/ln E = .853 opens, KL = .204 does not
    for gate, threshold, expected in [("entropy", 0.8, [False, True, True]), ("kl", 0.1, [False, True, False])]:
        assert [gate_open(x, gate, threshold).item() for x in (logits, between, apart)] == expected


def test_one_expert_leaves_nothing_to_be_unsure_about():
    logits = torch.randn(3, 4, 1, 2)
    assert not gate_open(logits, "entropy", 0.8).any()
    assert not gate_open(logits, "kl", 0.1).any()
