"""MFCPL against loops: mixtures of prototypes for absent modalities, the added losses, prototypes that follow means."""

import math

import pytest
import torch

from tests.builders.fusions import CLASSES, context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_linear, loop_norm, loop_softmax

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def cosine(x, y):
    return (sum(a * b for a, b in zip(x, y, strict=True)) / (x.norm() * y.norm())).item()


def means(batch, b):
    return {i: z[b].mean(dim=0) for i, z in enumerate(batch.tokens) if batch.presence[b, i]}


def loop_logits(fusion, batch, b, tau):
    h, prototypes = means(batch, b), fusion.prototypes_mCD
    score = [sum(cosine(h[i], prototypes[i, c]) for i in h) / len(h) / tau for c in range(CLASSES)]
    q = loop_softmax(torch.tensor(score, dtype=torch.float64))
    f = [h[j] if j in h else sum(q[c] * prototypes[j, c] for c in range(CLASSES)) for j in range(len(batch.tokens))]
    return loop_linear(fusion.head, torch.cat([loop_norm(fusion.norm, x) for x in f]))


def test_equals_the_loop():
    fusion = noisy(model("mfcpl", context(), options="temperature = 0.3").double())
    batch = patients(context(), GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b in range(len(GROUPS)):
        torch.testing.assert_close(logits[b], loop_logits(fusion, batch, b, 0.3), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("within", "across"), [(0.0, 0.0), (0.7, 0.0), (0.0, 1.3)])
def test_the_added_losses(within, across):
    of = context()
    fusion = noisy(model("mfcpl", of, options=f"within = {within}, across = {across}").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    loss = batch.given_to(fusion).loss(LABEL, cross_entropy)
    for b in range(len(GROUPS)):
        h, prototypes, y = means(batch, b), fusion.prototypes_mCD, int(LABEL[b])

        def contrast(x, j, y=y, prototypes=prototypes):
            score = [cosine(x, prototypes[j, c]) / 0.5 for c in range(CLASSES)]
            return -math.log(math.exp(score[y]) / sum(math.exp(s) for s in score))

        added = 0.0
        for i, x in h.items():
            added += within * contrast(x, i) / len(h)
            added += across * sum(contrast(x, j) for j in range(3) if j != i) / 2 / len(h)
            added += (prototypes[i, y] - x).square().mean().item() / len(h)
        logits = loop_logits(fusion, batch, b, 0.5).unsqueeze(0)
        expected = cross_entropy(logits, LABEL[b : b + 1]).item() + added
        assert loss[b].item() == pytest.approx(expected, abs=1e-9)


def test_prototypes_follow_the_means_of_their_class():
    of = context(2)
    fusion = model("mfcpl", of, options="within = 0, across = 0").train()
    batch, label = patients(of, (3,) * 90, seed=1), torch.arange(90) % CLASSES
    optimizer = torch.optim.SGD([fusion.weight_mCD], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        batch.given_to(fusion).loss(label, cross_entropy).mean().backward()
        optimizer.step()
    for i, z in enumerate(batch.tokens):
        for c in range(CLASSES):
            expected = z[label == c].mean(dim=(0, 1))
            torch.testing.assert_close(fusion.prototypes_mCD[i, c].detach(), expected, rtol=0, atol=1e-3)


def test_prototypes_follow_at_the_learning_rate_of_a_transformer():
    """In the steps of a few rounds, from nothing: they are features then, and not the noise of a start."""
    of = context(2)
    fusion = model("mfcpl", of).train()
    assert not fusion.prototypes_mCD.any()
    batch, label = patients(of, (3,) * 90, seed=1), torch.arange(90) % CLASSES
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        batch.given_to(fusion).loss(label, cross_entropy).mean().backward()
        optimizer.step()
    for i, z in enumerate(batch.tokens):
        mean_CD = torch.stack([z[label == c].mean(dim=(0, 1)) for c in range(CLASSES)])
        error = (fusion.prototypes_mCD[i] - mean_CD).norm() / mean_CD.norm()
        assert error < 0.1


def test_the_head_and_the_contrast_take_prototypes_as_they_are():
    """Only the squared distance changes prototypes; a class without patients in the batch keeps its own."""
    fusion = noisy(model("mfcpl", context())).train()
    batch = patients(context(), (5, 2, 1))
    batch.given_to(fusion).loss(torch.tensor([0, 0, 1]), cross_entropy).sum().backward()
    moved = fusion.weight_mCD.grad.abs().sum(dim=2) > 0
    assert moved.tolist() == [[True, True, False], [True, False, False], [True, False, False]]


def test_one_modality_has_no_other():
    fusion = model("mfcpl", context(1)).train()
    loss = patients(context(1), (1, 1)).given_to(fusion).loss(LABEL[:2], cross_entropy)
    assert loss.shape == (2,)
    assert loss.isfinite().all()
