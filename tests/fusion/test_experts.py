"""Soft MoE against loops written from Eq. 5 and 6, in float64."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.fusion.experts import Experts, SoftMoE, combine_weights, dispatch_weights
from remind.fusion.routing import Router

TOLERANCE: dict[str, Any] = {"rtol": 0, "atol": 1e-10}
TIGHT: dict[str, Any] = {"rtol": 0, "atol": 1e-12}


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
    """One patient, computed from the equations."""
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


def einsum_soft_moe(moe, x_BMD, logits_BMES):
    """Eq. 5 and 6 index by index."""
    dispatch_BMES, combine_BMES = logits_BMES.softmax(1), logits_BMES.flatten(2).softmax(-1).view_as(logits_BMES)
    slots_BESD = torch.einsum("bmes,bmd->besd", dispatch_BMES, x_BMD)
    w = moe.experts
    hidden_BESH = gelu_of(torch.einsum("besd,edh->besh", slots_BESD, w.w1_EDH) + w.b1_EH[:, None])
    out_BESD = torch.einsum("besh,ehd->besd", hidden_BESH, w.w2_EHD) + w.b2_ED[:, None]
    return torch.einsum("bmes,besd->bmd", combine_BMES, out_BESD)


def gelu_of(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def case(batch, tokens, experts, slots, width, dtype=torch.float64):
    """A Soft MoE with weights about 1/√width, tokens and logits, all of which require gradients."""
    torch.manual_seed(batch + 10 * tokens + 100 * experts)
    moe = SoftMoE(experts, width, 3 * width).to(dtype)
    with torch.no_grad():
        moe.experts.b1_EH.normal_()
        moe.experts.b2_ED.normal_()
    x_BMD = torch.randn(batch, tokens, width, dtype=dtype, requires_grad=True)
    logits_BMES = (3 * torch.randn(batch, tokens, experts, slots, dtype=dtype)).requires_grad_()
    return moe, x_BMD, logits_BMES


def gradients(output, *sources):
    return torch.autograd.grad(output.sin().sum(), sources)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 4),
    tokens=st.integers(1, 7),
    experts=st.integers(1, 6),
    slots=st.integers(1, 4),
    width=st.integers(1, 9),
)
def test_outputs_and_gradients_equal_the_einsums(batch, tokens, experts, slots, width):
    moe, x_BMD, logits_BMES = case(batch, tokens, experts, slots, width)
    expected_BMD = einsum_soft_moe(moe, x_BMD, logits_BMES)
    expected = gradients(expected_BMD, x_BMD, logits_BMES, *moe.parameters())
    y_BMD = moe(x_BMD, logits_BMES)
    found = gradients(y_BMD, x_BMD, logits_BMES, *moe.parameters())
    torch.testing.assert_close(y_BMD, expected_BMD, **TIGHT)
    torch.testing.assert_close(found, expected, **TIGHT)


@pytest.mark.parametrize("slots", [1, 3])
def test_order_of_tokens_and_of_experts_and_of_slots_does_not_matter(slots):
    moe, x_BMD, logits_BMES = case(3, 6, 5, slots, 8)
    y_BMD = moe(x_BMD, logits_BMES)
    tokens = torch.randperm(6)
    torch.testing.assert_close(moe(x_BMD[:, tokens], logits_BMES[:, tokens]), y_BMD[:, tokens], **TIGHT)
    torch.testing.assert_close(moe(x_BMD, logits_BMES.flip(3)), y_BMD, **TIGHT)
    experts = torch.randperm(5)
    with torch.no_grad():
        for weight in moe.experts.parameters():
            weight.copy_(weight[experts].clone())
    torch.testing.assert_close(moe(x_BMD, logits_BMES[:, :, experts]), y_BMD, **TIGHT)


def test_patients_do_not_see_each_other():
    moe, x_BMD, logits_BMES = case(4, 5, 3, 2, 6)
    y_BMD = moe(x_BMD, logits_BMES)
    for b in range(4):
        torch.testing.assert_close(moe(x_BMD[b : b + 1], logits_BMES[b : b + 1])[0], y_BMD[b], **TIGHT)


def test_extreme_logits_choose_one_token_and_one_slot():
    moe, x_BMD, _ = case(1, 3, 2, 1, 4)
    logits_BMES = torch.full((1, 3, 2, 1), -1e5, dtype=torch.float64)
    logits_BMES[0, 1, 0], logits_BMES[0, 2, 1] = 1e5, 1e5
    y_MD = moe(x_BMD, logits_BMES)[0]
    out_ED = moe.experts(x_BMD[:, [1, 2]].unsqueeze(2))[0, :, 0]
    torch.testing.assert_close(y_MD[[1, 2]], out_ED, **TIGHT)
    assert y_MD.isfinite().all()


def test_transforms_work():
    """Gradients per patient by vmap, and a directional derivative in forward mode."""
    moe, x_BMD, logits_BMES = case(3, 4, 3, 2, 5)
    parameters = {name: p.detach() for name, p in moe.named_parameters()}

    def loss(parameters, x_MD, logits_MES):
        return torch.func.functional_call(moe, parameters, (x_MD[None], logits_MES[None])).sin().sum()

    per_patient = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, x_BMD, logits_BMES)
    for b in range(3):
        expected = gradients(moe(x_BMD[b : b + 1], logits_BMES[b : b + 1]), *moe.parameters())
        torch.testing.assert_close(tuple(g[b] for g in per_patient.values()), expected, **TIGHT)
    direction_BMD = torch.randn_like(x_BMD)
    slope = torch.func.jvp(lambda x: moe(x, logits_BMES).sin().sum(), (x_BMD,), (direction_BMD,))[1]
    (expected,) = gradients(moe(x_BMD, logits_BMES), x_BMD)
    torch.testing.assert_close(slope, (expected * direction_BMD).sum(), **TOLERANCE)


def test_gradcheck_of_first_and_second_derivatives():
    experts = Experts(2, 3, 4).double()
    slots_BESD = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    inputs = (slots_BESD, *experts.parameters())
    assert torch.autograd.gradcheck(lambda slots, *_: experts(slots), inputs)
    assert torch.autograd.gradgradcheck(lambda slots, *_: experts(slots), inputs)


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
    assert Router(64, 4, 1, scale=0.5).scale.item() == pytest.approx(4.0)


def test_experts_see_their_input_not_their_bias_alone():
    experts = Experts(2, 4, 8)
    slots_BESD = torch.randn(1, 2, 1, 4)
    assert not torch.allclose(experts(slots_BESD), experts(slots_BESD * 2))
