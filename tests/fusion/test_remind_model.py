"""Invariant 2 (Φ_k = 0 is Soft MoE; no order matters), missing modalities, unseen groups."""

import pytest
import torch

from remind.config import ModelConfig
from remind.fusion.base import Context, build_fusion

CONFIG = ModelConfig(width=8, experts=4, slots=2, heads=2, expansion=2, dropout=0.0)
PRESENCE = torch.tensor([[True, False, True], [False, True, False], [True, True, True], [True, False, True]])
GROUPS = torch.tensor([5, 2, 7, 5])


def model(groups=(2, 5, 7), dtype=torch.float32, **changes):
    context = Context(model=CONFIG.model_copy(update=changes), classes=3, modalities=("a", "b", "c"), tokens=(3, 1, 2))
    fusion = build_fusion("remind", context, seed=1)
    fusion.add_groups(groups, seed=1)
    return fusion.to(dtype)


def tokens(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, length, 8, dtype=dtype, generator=generator) for length in (3, 1, 2)]


@pytest.mark.parametrize("router", ["cosine", "raw"])
@pytest.mark.parametrize("gate", ["always", "entropy", "kl"])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_residual_is_soft_moe_bit_for_bit(router, gate, blocks, dtype):
    fusion = model(router=router, gate=gate, blocks=blocks, dtype=dtype)
    routed = fusion(tokens(dtype), PRESENCE, GROUPS, routing=True)
    plain = fusion(tokens(dtype), PRESENCE, GROUPS, routing=False)
    assert torch.equal(routed.logits_BC, plain.logits_BC)


def test_residual_changes_its_own_group_only():
    fusion = model(gate="always")
    before = fusion(tokens(), PRESENCE, GROUPS).logits_BC
    torch.manual_seed(0)
    with torch.no_grad():
        fusion.groups["5"].residual_LDES.normal_()
    after = fusion(tokens(), PRESENCE, GROUPS).logits_BC
    assert torch.equal(after[[1, 2]], before[[1, 2]])
    assert (after[[0, 3]] - before[[0, 3]]).abs().min() > 1e-4


def test_shut_gate_keeps_residual_out():
    fusion = model(gate="never")
    with torch.no_grad():
        fusion.groups["5"].residual_LDES.normal_()
    output = fusion(tokens(), PRESENCE, GROUPS)
    assert torch.equal(output.logits_BC, fusion(tokens(), PRESENCE, GROUPS, routing=False).logits_BC)
    assert output.open_B.sum() == 0


def test_token_order_does_not_matter():
    fusion = model(dtype=torch.float64, gate="always")
    with torch.no_grad():
        for parameters in fusion.groups.values():
            parameters.residual_LDES.normal_()
    z = tokens(torch.float64)
    expected = fusion(z, PRESENCE, GROUPS).logits_BC
    shuffled = [part[:, torch.randperm(part.shape[1])] for part in z]
    torch.testing.assert_close(fusion(shuffled, PRESENCE, GROUPS).logits_BC, expected, rtol=0, atol=1e-12)
    order = [2, 0, 1]
    swapped = fusion([z[i] for i in order], PRESENCE[:, order], GROUPS).logits_BC
    torch.testing.assert_close(swapped, expected, rtol=0, atol=1e-12)


def test_expert_order_does_not_matter():
    fusion = model(dtype=torch.float64, gate="always")
    with torch.no_grad():
        for parameters in fusion.groups.values():
            parameters.residual_LDES.normal_()
        expected = fusion(tokens(torch.float64), PRESENCE, GROUPS).logits_BC
        order = torch.tensor([3, 1, 0, 2])
        block = fusion.blocks[0]
        block.router.phi_DES.copy_(block.router.phi_DES[:, order].clone())
        for parameters in fusion.groups.values():
            parameters.residual_LDES.copy_(parameters.residual_LDES[:, :, order].clone())
        for weight in block.moe.experts.parameters():
            weight.copy_(weight[order].clone())
        permuted = fusion(tokens(torch.float64), PRESENCE, GROUPS).logits_BC
    torch.testing.assert_close(permuted, expected, rtol=0, atol=1e-12)


def test_patients_of_a_batch_do_not_see_each_other():
    fusion = model(gate="always")
    together = fusion(tokens(), PRESENCE, GROUPS).logits_BC
    for b in range(4):
        alone = fusion([z[b : b + 1] for z in tokens()], PRESENCE[b : b + 1], GROUPS[b : b + 1]).logits_BC
        torch.testing.assert_close(alone[0], together[b], rtol=1e-5, atol=1e-6)


def test_values_of_a_missing_modality_do_not_matter():
    fusion = model()
    z = tokens()
    expected = fusion(z, PRESENCE, GROUPS).logits_BC
    z[1] = torch.where(PRESENCE[:, 1, None, None], z[1], torch.full_like(z[1], 1e6))
    assert torch.equal(fusion(z, PRESENCE, GROUPS).logits_BC, expected)


def test_unseen_group_uses_shared_router_and_mean_missing_embedding():
    fusion = model(groups=(2, 3, 7), gate="always")
    with torch.no_grad():
        for parameters in fusion.groups.values():
            parameters.residual_LDES.normal_()
    unseen = fusion(tokens(), PRESENCE, GROUPS).logits_BC[[0, 3]]
    with_group = model(groups=(2, 3, 7), gate="always")
    with_group.load_state_dict(fusion.state_dict())
    mean = torch.stack([fusion.groups[k].missing_D for k in "23"]).mean(0)  # group 7 lacks nothing and has none
    with_group.add_groups([5], seed=9)
    with torch.no_grad():
        with_group.groups["5"].missing_D.copy_(mean)
    torch.testing.assert_close(with_group(tokens(), PRESENCE, GROUPS).logits_BC[[0, 3]], unseen)


def test_groups_begin_with_zero_residual_and_an_embedding_that_depends_on_group_and_seed_alone():
    one, other = model(groups=(2, 5, 7)), model(groups=(7, 5))
    assert one.groups["7"].missing_D is None, "nothing is missing there"
    assert one.groups["5"].residual_LDES.abs().sum() == 0
    assert torch.equal(one.groups["5"].missing_D, other.groups["5"].missing_D)
    assert not torch.equal(one.groups["5"].missing_D, one.groups["2"].missing_D)


def test_gate_decision_carries_no_gradient_but_residual_does():
    fusion = model(gate="always")
    fusion(tokens(), PRESENCE, GROUPS).logits_BC.square().sum().backward()
    assert all(p.residual_LDES.grad.abs().sum() > 0 for p in fusion.groups.values())
    assert all(fusion.groups[key].missing_D.grad.abs().sum() > 0 for key in "25")


def test_twenty_modalities_cost_what_is_observed():
    names = tuple(f"m{i}" for i in range(20))
    fusion = build_fusion("remind", Context(model=CONFIG, classes=2, modalities=names, tokens=(1,) * 20), seed=0)
    shared = sum(p.numel() for p in fusion.parameters())
    fusion.add_groups([(1 << 20) - 2, 5, 1 << 19], seed=0)
    per_group = CONFIG.width * CONFIG.experts * CONFIG.slots + CONFIG.width
    assert sum(p.numel() for p in fusion.parameters()) == shared + 3 * per_group
