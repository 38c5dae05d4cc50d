"""mmFormer against loops: within modalities, absent tokens 0, over all tokens, a head of each modality's own."""

import pytest
import torch

from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_layer, loop_linear, loop_norm

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def loop_own(fusion, batch, b):
    """Tokens of each modality after its own layers; 0 for an absent one."""
    own = []
    for i, z in enumerate(batch.tokens):
        inner = z[b] + fusion.own_position[i]
        for layer in fusion.own_layers[i]:
            inner = loop_layer(layer, inner)
        own.append(inner if batch.presence[b, i] else torch.zeros_like(inner))
    return own


def loop_logits(fusion, batch, b):
    z_MD = torch.cat(loop_own(fusion, batch, b)) + fusion.position_MD
    for layer in fusion.layers:
        z_MD = loop_layer(layer, z_MD)
    return loop_linear(fusion.head, torch.stack([loop_norm(fusion.norm, z) for z in z_MD]).mean(0))


def test_equals_the_loop():
    of = context()
    fusion = noisy(model("mmformer", of, options="layers = 2").double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b in range(len(GROUPS)):
        torch.testing.assert_close(logits[b], loop_logits(fusion, batch, b), rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.5])
def test_loss_adds_the_own_heads_of_present_modalities(factor):
    of = context()
    fusion = noisy(model("mmformer", of, options=f"modality-dropout = 0.0, auxiliary = {factor}").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    loss = batch.given_to(fusion).loss(LABEL, cross_entropy)
    for b in range(len(GROUPS)):
        expected = cross_entropy(loop_logits(fusion, batch, b).unsqueeze(0), LABEL[b : b + 1])
        for i, own in enumerate(loop_own(fusion, batch, b)):
            if batch.presence[b, i]:
                logits = loop_linear(fusion.own_heads[i], own.mean(dim=0)).unsqueeze(0)
                expected = expected + factor * cross_entropy(logits, LABEL[b : b + 1])
        assert loss[b].item() == pytest.approx(expected.item(), abs=1e-9)


def test_modalities_are_hidden_at_random_by_default():
    of = context()
    fusion = noisy(model("mmformer", of)).train()
    batch = patients(of, (7,) * 50)
    torch.manual_seed(0)
    shown = batch.given_to(fusion).presence_Bm
    assert 0.4 < shown.float().mean() < 0.75
    assert shown.any(dim=1).all()
