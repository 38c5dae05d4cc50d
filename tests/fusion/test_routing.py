"""Entropy, KL and the gate: loops, and the numeric check of algorithm §4.2."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.fusion.routing import Router, gate_open, routing_entropy, routing_kl

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
            for s in range(slots):
                raised = [math.exp(v) for v in logits_BMES[b, m, :, s].tolist()]
                p = [v / sum(raised) for v in raised]
                entropies.append(-sum(v * math.log(v) for v in p))
                kls.append(sum(v * math.log(v * experts) for v in p))
        assert routing_entropy(logits_BMES)[b].item() == pytest.approx(sum(entropies) / (tokens * slots), abs=1e-10)
        assert routing_kl(logits_BMES)[b].item() == pytest.approx(sum(kls) / (tokens * slots), abs=1e-10)


def test_slots_are_asked_one_by_one():
    """Slot 1 is certain in both cases; the size of its logits relative to slot 2 must have no effect."""
    sure, unsure = torch.tensor([30.0, 0, 0, 0]), torch.zeros(4)
    for shift in (-100.0, 0.0, 100.0):
        logits_BMES = torch.stack([sure + shift, unsure], dim=-1).view(1, 1, 4, 2).double()
        assert routing_entropy(logits_BMES).item() == pytest.approx(math.log(4) / 2, abs=1e-9)


def test_one_slot_is_as_before_to_the_last_bit():
    logits_BMES = 3 * torch.randn(5, 7, 6, 1, generator=torch.Generator().manual_seed(0))
    log_BME = logits_BMES.flatten(2).log_softmax(dim=-1)
    before_B = -(log_BME.exp() * log_BME).sum(dim=(1, 2)) / logits_BMES.shape[1]
    assert torch.equal(routing_entropy(logits_BMES), before_B)


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
    gates: list[tuple[Any, float, list[bool]]] = [
        ("entropy", 0.8, [False, True, True]),
        ("kl", 0.1, [False, True, False]),
    ]
    for gate, threshold, expected in gates:
        assert [gate_open(x, gate, threshold).item() for x in (logits, between, apart)] == expected


def test_one_expert_leaves_nothing_to_be_unsure_about():
    logits = torch.randn(3, 4, 1, 2)
    assert not gate_open(logits, "entropy", 0.8).any()
    assert not gate_open(logits, "kl", 0.1).any()


def two_products(router, x_BMD, residual_GDES, row_B, gate, threshold):
    """The router as in Eq. 7: x · Φ_shared, plus x · Φ_k where the gate is open."""
    if router.kind == "cosine":
        x_BMD = torch.nn.functional.normalize(x_BMD, dim=-1)

    def logits(product_BMES, phi_DES):
        return product_BMES * router.scale / phi_DES.norm(dim=0) if router.kind == "cosine" else product_BMES

    product_BMES = torch.einsum("bmd,des->bmes", x_BMD, router.phi_DES)
    shared_BMES = logits(product_BMES, router.phi_DES)
    open_B = gate_open(shared_BMES, gate, threshold)
    own = [
        logits(
            product_BMES[b] + torch.einsum("md,des->mes", x_BMD[b], residual_GDES[g]), router.phi_DES + residual_GDES[g]
        )
        for b, g in enumerate(row_B.tolist())
    ]
    return torch.where(open_B.view(-1, 1, 1, 1), torch.stack(own), shared_BMES), open_B


def router_case(kind, dtype=torch.float64, sizes=(6, 4, 3), batch=5, tokens=7, groups=3, seed=0):
    torch.manual_seed(seed)
    router = Router(sizes[0], sizes[1], sizes[2], kind).to(dtype)
    x_BMD = torch.randn(batch, tokens, sizes[0], dtype=dtype, requires_grad=True)
    residual_GDES = torch.randn(groups, *sizes, dtype=dtype, requires_grad=True)
    return router, x_BMD, residual_GDES, torch.randint(0, groups, (batch,))


@pytest.mark.parametrize("kind", ["cosine", "raw"])
@pytest.mark.parametrize("gate", ["always", "entropy", "kl"])
@pytest.mark.parametrize("slots", [1, 3])
def test_logits_and_gradients_are_those_of_two_products(kind, gate, slots):
    router, x_BMD, residual_GDES, row_B = router_case(kind, sizes=(6, 4, slots))
    with torch.no_grad():
        scores_B = gate_scores(router, x_BMD, gate)
    threshold = scores_B.sort().values[1:3].mean().item()  # some gates open, some shut
    weights = torch.randn(5, 7, 4, slots, dtype=torch.float64)
    sources = (x_BMD, residual_GDES, *router.parameters())
    found = []
    for route in (router, lambda *arguments: two_products(router, *arguments)):
        logits_BMES, open_B = route(x_BMD, residual_GDES, row_B, gate, threshold)
        found.append((logits_BMES, open_B, *torch.autograd.grad((weights * logits_BMES).sum(), sources)))
    assert gate == "always" or 0 < found[0][1].sum() < 5
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


def gate_scores(router, x_BMD, gate):
    """The value that the gate compares with its threshold."""
    shared_BMES, _ = router(x_BMD, None, None, "never", 0.0)
    return routing_kl(shared_BMES) if gate == "kl" else routing_entropy(shared_BMES) / math.log(shared_BMES.shape[2])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.sampled_from([1, 3, 8, 17, 64]), st.integers(1, 9), st.integers(1, 5)),
    batch=st.integers(1, 9),
    tokens=st.sampled_from([1, 2, 5, 16, 33]),
    groups=st.integers(1, 6),
    kind=st.sampled_from(["cosine", "raw"]),
    gate=st.sampled_from(["always", "entropy", "kl"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
def test_logits_without_residual_or_with_the_gate_shut_are_the_shared_ones_bit_for_bit(
    sizes, batch, tokens, groups, kind, gate, dtype, seed
):
    router, x_BMD, residual_GDES, row_B = router_case(kind, dtype, sizes, batch, tokens, groups, seed)
    shared_BMES, shut_B = router(x_BMD, None, None, gate, 0.8)
    assert not shut_B.any()
    with torch.no_grad():
        residual_GDES[0] = 0
    logits_BMES, open_B = router(x_BMD, residual_GDES, row_B, gate, 0.8)
    alike_B = ~open_B | (row_B == 0)
    assert torch.equal(logits_BMES[alike_B], shared_BMES[alike_B])
    assert torch.equal(router(x_BMD, torch.zeros_like(residual_GDES), row_B, gate, 0.8)[0], shared_BMES)
    assert torch.equal(router(x_BMD, residual_GDES, row_B, "never", 0.8)[0], shared_BMES)


def test_residuals_take_no_gradient_while_every_gate_is_shut():
    router, x_BMD, residual_GDES, row_B = router_case("cosine")
    logits_BMES, open_B = router(x_BMD, residual_GDES, row_B, "entropy", 1.1)
    assert not open_B.any()
    logits_BMES.sum().backward()
    assert residual_GDES.grad is None
    assert router.phi_DES.grad.abs().sum() > 0


def test_residual_of_a_group_whose_gates_are_shut_has_gradient_zero():
    router, x_BMD, residual_GDES, _ = router_case("cosine", batch=2, groups=2)
    scores_B = gate_scores(router, x_BMD, "entropy")
    logits_BMES, open_B = router(x_BMD, residual_GDES, torch.tensor([0, 1]), "entropy", scores_B.mean().item())
    logits_BMES.square().sum().backward()
    gradient_G = residual_GDES.grad.abs().sum(dim=(1, 2, 3))
    assert (gradient_G > 0).tolist() == open_B.tolist()
    assert open_B.sum() == 1


def test_tokens_of_zeros_have_finite_logits_and_gradients():
    router, x_BMD, residual_GDES, row_B = router_case("cosine")
    with torch.no_grad():
        x_BMD[0, 2] = 0
    logits_BMES, _ = router(x_BMD, residual_GDES, row_B, "always", 0.0)
    assert (logits_BMES[0, 2] == 0).all()
    (gradient_BMD,) = torch.autograd.grad(logits_BMES.square().sum(), x_BMD)
    assert gradient_BMD.isfinite().all()


def test_certain_routing_has_entropy_zero_and_finite_gradients():
    logits_BMES = torch.zeros(1, 2, 3, 1, dtype=torch.float64)
    logits_BMES[:, :, 1] = 1e4
    logits_BMES.requires_grad_()
    entropy_B = routing_entropy(logits_BMES)
    assert entropy_B.item() == 0
    assert torch.autograd.grad(entropy_B.sum(), logits_BMES)[0].isfinite().all()


def test_batch_without_patients():
    router, _, residual_GDES, _ = router_case("cosine")
    nobody = torch.zeros(0, 7, 6, dtype=torch.float64)
    for gate in ("always", "entropy", "never"):
        logits_BMES, open_B = router(nobody, residual_GDES, torch.zeros(0, dtype=torch.long), gate, 0.8)
        assert logits_BMES.shape == (0, 7, 4, 3)
        assert open_B.shape == (0,)
