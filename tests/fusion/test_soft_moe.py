"""Soft MoE against loops written from Eq. 5 and 6, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.fusion.routing import Router
from remind.fusion.soft_moe import Experts, SoftMoE, combine_weights, dispatch_weights

TOLERANCE = {"rtol": 0, "atol": 1e-10}


def softmax(values):
    top = max(values)
    raised = [math.exp(v - top) for v in values]
    return [r / sum(raised) for r in raised]


def gelu(x):
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def loop_expert(experts, e, slot):
    width, hidden = experts.w1_EDH.shape[1:]
    inner = [
        gelu(sum(slot[d] * experts.w1_EDH[e, d, h].item() for d in range(width)) + experts.b1_EH[e, h].item())
        for h in range(hidden)
    ]
    return [
        sum(inner[h] * experts.w2_EHD[e, h, d].item() for h in range(hidden)) + experts.b2_ED[e, d].item()
        for d in range(width)
    ]


def loop_soft_moe(experts, x_MD, logits_MES):
    """One patient, straight from the equations."""
    tokens, n_experts, slots = logits_MES.shape
    width = x_MD.shape[1]
    outputs = {}
    for e in range(n_experts):
        for s in range(slots):
            dispatch = softmax([logits_MES[m, e, s].item() for m in range(tokens)])
            slot = [sum(dispatch[m] * x_MD[m, d].item() for m in range(tokens)) for d in range(width)]
            outputs[e, s] = loop_expert(experts, e, slot)
    y_MD = torch.zeros(tokens, width, dtype=torch.float64)
    for m in range(tokens):
        keys = list(outputs)
        combine = softmax([logits_MES[m, e, s].item() for e, s in keys])
        for share, key in zip(combine, keys, strict=True):
            y_MD[m] += share * torch.tensor(outputs[key], dtype=torch.float64)
    return y_MD


@settings(max_examples=15, deadline=None)
@given(
    tokens=st.integers(1, 4),
    experts=st.integers(1, 4),
    slots=st.integers(1, 3),
    width=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_soft_moe_equals_the_loop(tokens, experts, slots, width, seed):
    torch.manual_seed(seed)
    moe = SoftMoE(experts, width, 2 * width).double()
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_()
    x_BMD = torch.randn(3, tokens, width, dtype=torch.float64)
    logits_BMES = torch.randn(3, tokens, experts, slots, dtype=torch.float64)
    y_BMD = moe(x_BMD, logits_BMES)
    for b in range(3):
        torch.testing.assert_close(y_BMD[b], loop_soft_moe(moe.experts, x_BMD[b], logits_BMES[b]), **TOLERANCE)


def test_dispatch_sums_to_one_over_tokens_and_combine_over_slots():
    logits_BMES = torch.randn(2, 5, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(dispatch_weights(logits_BMES).sum(1), torch.ones(2, 3, 2, dtype=torch.float64))
    torch.testing.assert_close(combine_weights(logits_BMES).sum((2, 3)), torch.ones(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["cosine", "raw"])
def test_router_logits_equal_the_loop(kind):
    torch.manual_seed(3)
    width, experts, slots, tokens = 4, 3, 2, 5
    router = Router(width, experts, slots, kind).double()
    residual_GDES = torch.randn(2, width, experts, slots, dtype=torch.float64)
    x_BMD = torch.randn(3, tokens, width, dtype=torch.float64)
    row_B = torch.tensor([1, 0, 1])
    logits_BMES, open_B = router(x_BMD, residual_GDES, row_B, "always", 0.0)
    assert open_B.all()
    for b in range(3):
        phi_DES = router.phi_DES + residual_GDES[row_B[b]]
        for m in range(tokens):
            for e in range(experts):
                for s in range(slots):
                    x, phi = x_BMD[b, m], phi_DES[:, e, s]
                    expected = sum((x[d] * phi[d]).item() for d in range(width))
                    if kind == "cosine":
                        expected *= router.scale.item() / math.sqrt(sum(v.item() ** 2 for v in x))
                        expected /= math.sqrt(sum(v.item() ** 2 for v in phi))
                    assert logits_BMES[b, m, e, s].item() == pytest.approx(expected, abs=1e-10)


def test_cosine_router_starts_with_scale_root_of_width():
    assert Router(64, 4, 1).scale.item() == pytest.approx(8.0)


def test_experts_see_their_input_not_their_bias_alone():
    experts = Experts(2, 4, 8)
    slots_BESD = torch.randn(1, 2, 1, 4)
    assert not torch.allclose(experts(slots_BESD), experts(slots_BESD * 2))
