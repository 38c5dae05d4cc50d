"""ShaSpec against loops: shared and specific features, the mean for absent ones, both added losses."""

import math

import pytest
import torch

from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_linear, loop_norm, loop_perceptron, loop_softmax

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def features(fusion, batch, b):
    """s and r of the modalities that the patient has."""
    s, r = {}, {}
    for i, z in enumerate(batch.tokens):
        if batch.presence[b, i]:
            h = z[b].mean(dim=0)
            s[i] = loop_perceptron(fusion.shared, loop_linear(fusion.adapters[i], h))
            r[i] = loop_perceptron(fusion.specific[i], h)
    return s, r


def test_equals_the_loop():
    of = context()
    fusion = noisy(model("shaspec", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b in range(len(GROUPS)):
        s, r = features(fusion, batch, b)
        mean = sum(s.values()) / len(s)
        f = [
            s[i] + loop_linear(fusion.project, torch.cat([s[i], r[i]])) if i in s else mean
            for i in range(len(of.tokens))
        ]
        expected = loop_linear(fusion.head, torch.cat([loop_norm(fusion.norm, x) for x in f]))
        torch.testing.assert_close(logits[b], expected, rtol=0, atol=1e-9)


def test_added_losses_are_of_present_modalities_only():
    of = context()
    fusion = noisy(model("shaspec", of, options="alignment = 0.3, classification = 0.7").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    added = batch.given_to(fusion).auxiliary_B
    for b in range(len(GROUPS)):
        s, r = features(fusion, batch, b)
        pairs = [(s[i] - s[j]).abs().mean().item() for i in s for j in s if i < j]
        named = [-math.log(loop_softmax(loop_linear(fusion.classifier, r[i]))[i].item()) for i in r]
        expected = 0.3 * sum(pairs) / max(len(pairs), 1) + 0.7 * sum(named) / len(named)
        assert added[b].item() == pytest.approx(expected, abs=1e-9)


def test_one_modality_has_no_added_loss():
    of = context(1)
    fusion = model("shaspec", of).train()
    output = patients(of, (1, 1)).given_to(fusion)
    assert output.auxiliary_B is None
    assert output.loss(LABEL[:2], cross_entropy).shape == (2,)
