"""Merged experts: merging identical ones changes nothing, others merge by similarity; loops and hand-made counts."""

import math

import pytest
import torch

from remind.fusion.base import build_fusion
from remind.fusion.experts import combine_weights
from remind.fusion.merging import clusters, merged, similarity
from remind.fusion.routing import gate_open, routing_entropy
from tests.builders.fusions import context, model, noisy, patients

GROUPS = (5, 2, 7, 5, 1, 6, 3)
KNOWN = (1, 2, 3, 5, 6, 7)
PAIRS = [[0, 3], [1, 2]]


def twins(options="", name="remind", **settings):
    """A model of four experts, where 3 equals 0 and 2 equals 1 up to the order of hidden units; and its patients."""
    of = context(experts=4, blocks=2, slots=2, **settings)
    fusion = noisy(model(name, of, KNOWN, options=options).double())
    order = torch.randperm(fusion.blocks[0].moe.experts.b1_EH.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for keep, other in PAIRS:
            for block in fusion.blocks:
                experts = block.moe.experts
                block.router.phi_DES[:, other] = block.router.phi_DES[:, keep]
                experts.w1_EDH[other], experts.b1_EH[other] = experts.w1_EDH[keep][:, order], experts.b1_EH[keep][order]
                experts.w2_EHD[other], experts.b2_ED[other] = experts.w2_EHD[keep][order], experts.b2_ED[keep]
            for parameter_name, parameter in fusion.named_parameters():
                if parameter_name.endswith(("residual_LDES", "residual_mLDES")):
                    parameter[..., other, :] = parameter[..., keep, :]
                if parameter_name.endswith("residual_right_LrX"):
                    parts = parameter.view(*parameter.shape[:2], 4, -1)
                    parts[:, :, other] = parts[:, :, keep]
    return of, fusion, patients(of, GROUPS, dtype=torch.float64)


def after(of, fusion, found, choice="remind()", groups=KNOWN):
    tensors = {f"fusion.{name}": tensor.detach() for name, tensor in fusion.named_parameters()}
    new = merged(tensors, [found] * 2, [torch.tensor([0.4, 0.1, 0.2, 0.3])] * 2)
    small = of.model_copy(update={"model": of.model.model_copy(update={"experts": len(found), "merged": True})})
    result = build_fusion(choice, small, 1).double()
    result.add_groups(groups, 1)
    result.load_state_dict({name.removeprefix("fusion."): tensor for name, tensor in new.items()})
    return result.eval()


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "settings"),
    [
        ("remind", "", {"gate": "always"}),
        ("remind", "", {"gate": "entropy", "threshold": 0.97}),
        ("remind", "", {"gate": "kl", "threshold": 0.05, "router": "raw"}),
        ("remind", "rank = 2", {"gate": "always"}),
        ("remind", "compose = true", {"gate": "always"}),
        ("softmoe", "", {}),
    ],
)
def test_identical_experts_merge_without_a_change(name, options, settings, routing):
    of, fusion, batch = twins(options, name, **settings)
    small = after(of, fusion, PAIRS, f"{name}({options})")
    before, found = batch.given_to(fusion, routing), batch.given_to(small, routing)
    torch.testing.assert_close(found.logits_BC, before.logits_BC, rtol=0, atol=1e-9)
    if name == "remind":
        assert torch.equal(found.open_B, before.open_B), "the gate too"
    pairs = [before.use_BE[:, pair].sum(dim=1) for pair in PAIRS]
    torch.testing.assert_close(found.use_BE, torch.stack(pairs, dim=1), rtol=0, atol=1e-9)
    assert small.blocks[0].moe.experts.b2_ED.shape[0] == 2


def test_merging_twice_counts_all_that_were_merged():
    of, fusion, batch = twins(gate="entropy", threshold=0.97)
    with torch.no_grad():
        for block in fusion.blocks:
            experts = block.moe.experts
            block.router.phi_DES[:, 1:] = block.router.phi_DES[:, :1]
            for parameter in experts.parameters():
                parameter[1:] = parameter[:1]
        for parameter_name, parameter in fusion.named_parameters():
            if parameter_name.endswith("residual_LDES"):
                parameter[..., 1:, :] = parameter[..., :1, :]
    half = after(of, fusion, PAIRS)
    tensors = {f"fusion.{name}": tensor.detach() for name, tensor in half.named_parameters()}
    new = merged(tensors, [[[0, 1]]] * 2, [torch.tensor([0.5, 0.5])] * 2)
    assert new["fusion.blocks.0.log_times_E"].tolist() == [pytest.approx(math.log(4))]
    one = of.model_copy(update={"model": of.model.model_copy(update={"experts": 1, "merged": True})})
    result = build_fusion("remind()", one, 1).double()
    result.add_groups(KNOWN, 1)
    result.load_state_dict({name.removeprefix("fusion."): tensor for name, tensor in new.items()})
    before, found = batch.given_to(fusion), batch.given_to(result.eval())
    torch.testing.assert_close(found.logits_BC, before.logits_BC, rtol=0, atol=1e-9)
    assert torch.equal(found.open_B, before.open_B)


def test_an_expert_of_weight_m_is_m_equal_experts_to_gate_and_combine():
    logits = torch.randn(3, 5, 2, 1, dtype=torch.float64)
    many = logits[:, :, [0, 0, 0, 1]]
    log_times = torch.tensor([3.0, 1.0], dtype=torch.float64).log()
    torch.testing.assert_close(routing_entropy(logits, log_times), routing_entropy(many))
    found, expected = combine_weights(logits, log_times), combine_weights(many)
    torch.testing.assert_close(found[:, :, 0], expected[:, :, :3].sum(dim=2))
    assert torch.equal(gate_open(logits, "entropy", 0.9, log_times), gate_open(many, "entropy", 0.9))
    assert torch.equal(gate_open(logits, "kl", 0.1, log_times), gate_open(many, "kl", 0.1))


def test_experts_are_alike_by_use_and_by_router():
    use = torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4], [0.3, 0.3, 0.2, 0.2]], dtype=torch.float64)
    phi = torch.eye(4, dtype=torch.float64).unsqueeze(2)
    near = similarity(use, phi)
    assert near.diagonal().tolist() == pytest.approx([1.0] * 4)
    assert near[0, 1] == pytest.approx(0.5), "used alike, columns at a right angle"
    assert near[0, 2] == pytest.approx(-0.5)
    assert clusters(near, 2) == [[0, 1], [2, 3]]
    assert clusters(near, 4) == [[0], [1], [2], [3]]
    assert clusters(near, 1) == [[0, 1, 2, 3]]
    even = torch.full((3, 4), 0.25, dtype=torch.float64)
    assert similarity(even, phi)[0, 1] == 0, "where nobody's use differs only the router counts"


def test_what_training_does_leaves_the_weights_of_merged_experts():
    of, fusion, batch = twins(gate="always")
    small = after(of, fusion, PAIRS).train()
    batch.given_to(small).logits_BC.sum().backward()
    own = small.blocks[0].log_times_E
    assert own.grad is None
    assert not own.requires_grad
    assert small.idle("blocks.0.log_times_E", True), "no step with noise moves it either"
