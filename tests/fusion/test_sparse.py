"""Gates, loads, balance and sparse experts against loops and random draws."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remind.fusion.sparse import (
    LaplaceGate,
    LinearGate,
    SparseMoE,
    SparseOptions,
    balance_loss,
    chance_of_top_k,
    cv_squared,
    top_k_softmax,
)
from tests.fusion.loops import loop_expert, loop_top_k

TOLERANCE: dict[str, Any] = {"rtol": 0, "atol": 1e-10}


def normal(*shape, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


@given(tokens=st.integers(1, 6), experts=st.integers(1, 6), data=st.data(), seed=st.integers(0, 10**6))
def test_top_k_keeps_the_best_and_renormalises(tokens, experts, data, seed):
    k = data.draw(st.integers(1, experts))
    score = normal(tokens, experts, seed=seed)
    weight = top_k_softmax(score, k)
    for n in range(tokens):
        expected = loop_top_k(score[n], k)
        assert {e for e in range(experts) if weight[n, e] > 0} == set(expected)
        for e, value in expected.items():
            assert weight[n, e].item() == pytest.approx(value.item(), abs=1e-12)


def test_laplace_gate_scores_are_distances():
    gate = LaplaceGate(5, 4, 2).double()
    x = normal(7, 5)
    for n in range(7):
        for e in range(4):
            distance = math.sqrt(sum((x[n, d] - gate.centre_ED[e, d]).item() ** 2 for d in range(5)))
            assert gate.scores(x)[n, e].item() == pytest.approx(-distance, abs=1e-12)


def test_laplace_weights_of_two_follow_the_difference_of_distances():
    gate = LaplaceGate(1, 3, 2).double().eval()
    with torch.no_grad():
        gate.centre_ED.copy_(torch.tensor([[0.0], [3.0], [100.0]]))
    weight = gate(torch.tensor([[1.0]], dtype=torch.float64)).weight_NE[0].tolist()
    odds = math.exp(-1.0) / math.exp(-2.0)
    assert weight == pytest.approx([odds / (1 + odds), 1 / (1 + odds), 0.0])


def test_laplace_gradient_is_finite_on_a_centre():
    gate = LaplaceGate(3, 2, 1).double().eval()
    x = gate.centre_ED.detach()[:1].clone().requires_grad_()
    gate.scores(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", [LinearGate, LaplaceGate])
def test_noise_in_training_only_and_of_the_stated_spread(kind):
    gate = kind(4, 3, 3).double()
    with torch.no_grad():
        gate.noise.weight.copy_(normal(3, 4, seed=1))
    x = normal(1, 4, seed=2)
    assert torch.equal(gate.eval()(x).weight_NE, top_k_softmax(gate.scores(x), 3))
    gate.train()
    torch.manual_seed(0)
    many = gate(x.expand(20_000, 4)).weight_NE.log()
    # With all three kept, log-weight differences are score differences plus the difference of two noises.
    spread = torch.nn.functional.softplus(x @ gate.noise.weight.T)[0] + 0.01
    difference = many[:, 0] - many[:, 1]
    assert difference.mean().item() == pytest.approx((gate.scores(x)[0, 0] - gate.scores(x)[0, 1]).item(), abs=0.05)
    assert difference.std().item() == pytest.approx((spread[0] ** 2 + spread[1] ** 2).sqrt().item(), rel=0.03)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_load_is_the_chance_to_be_kept_when_ones_own_noise_is_drawn_anew(k):
    score, spread = normal(1, 4, seed=3), normal(1, 4, seed=4).abs() + 0.1
    noisy = score + spread * normal(1, 4, seed=5)
    load = chance_of_top_k(score, noisy, spread, k)[0]
    for e in range(4):
        drawn = noisy.repeat(20_000, 1)
        drawn[:, e] = score[0, e] + spread[0, e] * normal(20_000, seed=10 + e)
        kept = (top_k_softmax(drawn, k)[:, e] > 0).double().mean().item()
        assert load[e].item() == pytest.approx(kept, abs=0.015)


def test_load_is_one_where_every_expert_is_kept():
    score = normal(2, 3)
    assert torch.equal(chance_of_top_k(score, score, torch.ones_like(score), 3), torch.ones_like(score))


@pytest.mark.parametrize("training", [True, False])
def test_experts_that_are_not_allowed_get_nothing(training):
    gate = LinearGate(4, 5, 3).double().train(training)
    x = normal(9, 4, grad=True)
    allowed = torch.tensor([True, False, True, False, False])  # fewer than k
    routed = gate(x, allowed)
    assert not routed.weight_NE[:, ~allowed].any()
    assert not routed.load_NE[:, ~allowed].any()
    assert torch.equal(routed.load_NE[:, allowed], torch.ones(9, 2, dtype=torch.float64))
    torch.testing.assert_close(routed.weight_NE.sum(1), torch.ones(9, dtype=torch.float64))
    (routed.weight_NE.square().sum() + routed.load_NE.square().sum()).backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in gate.parameters())


def test_balance_at_known_loads():
    # Loads 1, 1, 4: mean 2, variance (1 + 1 + 4) / 3 = 2, CV² = 2 / 4.
    assert cv_squared(torch.tensor([1.0, 1.0, 4.0])).item() == pytest.approx(0.5)
    assert cv_squared(torch.tensor([3.0, 3.0, 3.0, 3.0])).item() == 0
    assert cv_squared(torch.tensor([5.0])).item() == 0
    assert cv_squared(torch.tensor([0.0, 0.0, 0.0, 8.0])).item() == pytest.approx(3.0), "E − 1 when one has all"
    weight = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])  # importance 1.5, 1, .5: CV² = 1/6
    load = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])  # load 2, 2, 1: mean 5/3, CV² = 2/25
    assert balance_loss(weight, load).item() == pytest.approx(1 / 6 + 2 / 25)


def test_balance_loss_moves_the_gate_towards_balance():
    gate = LinearGate(4, 4, 1).double().train()
    with torch.no_grad():
        gate.linear.weight[0] += 2.0
    x = normal(256, 4).abs()  # positive, so that expert 0 takes nearly all
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    torch.manual_seed(0)
    shares = []
    for _ in range(150):
        routed = gate(x)
        optimizer.zero_grad()
        balance_loss(routed.weight_NE, routed.load_NE).backward()
        optimizer.step()
        shares.append(routed.weight_NE.mean(0).max().item())
    assert shares[0] > 0.8
    assert shares[-1] < 0.5


@given(
    tokens=st.integers(1, 6),
    experts=st.integers(1, 5),
    width=st.integers(1, 4),
    data=st.data(),
    seed=st.integers(0, 10**6),
)
def test_sparse_experts_equal_the_loop(tokens, experts, width, data, seed):
    k = data.draw(st.integers(1, experts))
    moe = SparseMoE(experts, width, 2 * width).double()
    with torch.no_grad():
        for i, p in enumerate(moe.parameters()):
            p.copy_(normal(*p.shape, seed=seed + i))
    x = normal(tokens, width, seed=seed + 9, grad=True)
    score = normal(tokens, experts, seed=seed + 10, grad=True)
    out = moe(x, top_k_softmax(score, k))
    expected = torch.stack(
        [
            torch.stack([w * loop_expert(moe.experts, e, x[n]) for e, w in loop_top_k(score[n], k).items()]).sum(0)
            for n in range(tokens)
        ]
    )
    torch.testing.assert_close(out, expected, **TOLERANCE)
    wanted = torch.autograd.grad(expected.square().sum(), [x, score, *moe.parameters()], allow_unused=True)
    found = torch.autograd.grad(out.square().sum(), [x, score, *moe.parameters()])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_no_more_experts_can_be_kept_than_there_are():
    with pytest.raises(ValidationError, match="top_k 5 is more than the 4 experts"):
        SparseOptions(experts=4, top_k=5)
