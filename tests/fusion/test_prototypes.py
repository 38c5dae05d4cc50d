"""Prototypes with any fusion model, against loops: the added loss and its gradients."""

import math

import pytest
import torch

from remind.config import Config
from remind.errors import UserError
from remind.fusion.base import registry
from remind.fusion.prototypes import GAIN, TEMPERATURE
from tests.builders.configs import BASE
from tests.builders.fusions import CLASSES, context, cross_entropy, model, noisy, patients

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
FACTOR = 0.7


def loop(fusion, batch, b, label):
    """The loss that is added for one patient."""
    added, present = 0.0, [i for i in range(3) if batch.presence[b, i]]
    for i in present:
        h = batch.tokens[i][b].mean(dim=0)
        near = []
        for c in range(CLASSES):
            p = GAIN * fusion.prototypes.weight_mCD[i, c]
            near.append(math.exp((h @ p / (h.norm() * p.norm())).item() / TEMPERATURE))
        own = GAIN * fusion.prototypes.weight_mCD[i, label]
        added += FACTOR * -math.log(near[label] / sum(near)) + (own - h).square().mean().item()
    return added / len(present)


@pytest.mark.parametrize("name", ["remind", "softmoe", "attention", "simmlm"])
def test_the_added_loss_is_that_of_the_loop_for_any_fusion_model(name):
    of = context(prototypes=FACTOR)
    fusion = noisy(model(name, of, tuple(sorted(set(GROUPS)))).double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    output = batch.given_to(fusion, routing=False)
    plain, whole = output.loss(LABEL, cross_entropy), output.total_loss(LABEL, cross_entropy)
    for b in range(len(GROUPS)):
        assert (whole - plain)[b].item() == pytest.approx(loop(fusion, batch, b, int(LABEL[b])), abs=1e-9)


def test_nothing_is_added_in_stage_two_nor_to_a_prediction():
    of = context(prototypes=FACTOR)
    fusion, batch = noisy(model("remind", of, tuple(sorted(set(GROUPS))))), patients(of, GROUPS)
    assert batch.given_to(fusion, routing=False).aligned_BC is None
    assert batch.given_to(fusion.train(), routing=True).aligned_BC is None
    assert model("remind", context()).prototypes is None


def test_prototypes_are_zero_at_first_and_change_no_other_initial_value():
    one, other = model("remind", context()).state_dict(), model("remind", context(prototypes=1.0)).state_dict()
    assert set(other) - set(one) == {"prototypes.weight_mCD"}
    assert not other["prototypes.weight_mCD"].any()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_tokens_follow_prototypes_and_prototypes_follow_tokens():
    of = context(prototypes=1.0)
    fusion = noisy(model("softmoe", of).double()).train()
    batch = patients(of, [7] * 6, dtype=torch.float64)
    tokens = [z.requires_grad_() for z in batch.tokens]
    aligned = batch.given_to(fusion, routing=False).aligned_BC.gather(1, LABEL[:, None]).sum()
    aligned.backward()
    for i in range(3):
        step = tokens[i].detach() - 1e-2 * tokens[i].grad
        for b in range(6):
            p = fusion.prototypes.weight_mCD[i, LABEL[b]]
            others = [fusion.prototypes.weight_mCD[i, c] for c in range(CLASSES) if c != LABEL[b]]

            def margin(z, p=p, others=others):
                h = z.mean(dim=0)
                cos = [torch.cosine_similarity(h, q, dim=0).item() / TEMPERATURE for q in (p, *others)]
                return cos[0] - math.log(sum(math.exp(c) for c in cos))

            assert margin(step[b]) > margin(tokens[i][b].detach())
    fusion.prototypes.weight_mCD.data.zero_()
    learned = torch.optim.Adam([fusion.prototypes.weight_mCD], lr=0.01)
    for _ in range(300):
        learned.zero_grad()
        batch.given_to(fusion, routing=False).aligned_BC.gather(1, LABEL[:, None]).sum().backward()
        learned.step()
    for i in range(3):
        for c in range(CLASSES):
            mean = batch.tokens[i][c == LABEL].mean(dim=(0, 1))
            torch.testing.assert_close(GAIN * fusion.prototypes.weight_mCD[i, c], mean, rtol=0, atol=0.05)


def test_every_fusion_model_takes_them():
    for method in registry.methods():
        of = context(prototypes=FACTOR)
        fusion = noisy(model(method.name, of, tuple(sorted(set(GROUPS))))).train()
        aligned = patients(of, GROUPS).given_to(fusion, routing=False).aligned_BC
        assert aligned.shape == (len(GROUPS), CLASSES), method.name


def test_they_are_refused_where_patients_are_protected_by_noise():
    with pytest.raises(UserError, match=r"model\.prototypes: the pull of one patient .* set it to 0"):
        Config.from_flat(BASE | {"privacy.mode": "site", "model.prototypes": 0.1})
