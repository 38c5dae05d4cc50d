"""FedFeatGen against loops: predicted features of absent modalities, the networks' error, and its gradients."""

import pytest
import torch
from torch.nn import functional

from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_linear, loop_norm

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def translated(fusion, i, j, h):
    own, p = fusion.translators, fusion.translators.pairs.index((i, j))
    parts = [sum(h[d] * own.first_pDF[p, d, f] for d in range(len(h))) for f in range(own.first_pDF.shape[2])]
    hidden = functional.gelu(torch.stack(parts) + own.first_pF[p])
    out = [sum(hidden[f] * own.second_pFD[p, f, d] for f in range(len(hidden))) for d in range(len(h))]
    return torch.stack(out) + own.second_pD[p]


def means(batch, b):
    return {i: z[b].mean(dim=0) for i, z in enumerate(batch.tokens) if batch.presence[b, i]}


def test_equals_the_loop():
    of = context()
    fusion = noisy(model("fedfeatgen", of, options="expansion = 2").double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b in range(len(GROUPS)):
        h = means(batch, b)
        f = [h[j] if j in h else sum(translated(fusion, i, j, h[i]) for i in h) / len(h) for j in range(len(of.tokens))]
        expected = loop_linear(fusion.head, torch.cat([loop_norm(fusion.norm, x) for x in f]))
        torch.testing.assert_close(logits[b], expected, rtol=0, atol=1e-9)


def test_the_added_loss_is_the_mean_error_over_pairs_that_are_present():
    of = context()
    fusion = noisy(model("fedfeatgen", of, options="imputation = 0.7").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    added = batch.given_to(fusion).auxiliary_B
    for b in range(len(GROUPS)):
        h = means(batch, b)
        errors = [(translated(fusion, i, j, h[i]) - h[j]).square().mean().item() for i in h for j in h if i != j]
        assert added[b].item() == pytest.approx(0.7 * sum(errors) / max(len(errors), 1), abs=1e-9)


def test_the_added_loss_moves_translators_alone():
    of = context()
    fusion = noisy(model("fedfeatgen", of)).train()
    batch = patients(of, (7,) * 4)
    for z in batch.tokens:
        z.requires_grad_()
    batch.given_to(fusion).auxiliary_B.sum().backward()
    moved = {n for n, p in fusion.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {n for n, _ in fusion.named_parameters() if n.startswith("translators.")}
    assert all(z.grad is None for z in batch.tokens)


def test_translators_learn_what_one_modality_tells_of_another():
    """h_1 = 2·h_0: after training the prediction from modality 0 replaces modality 1."""
    of = context(2)
    fusion = model("fedfeatgen", of).train()
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.02)
    errors = []
    for step in range(150):
        batch = patients(of, (3,) * 64, seed=step)
        first = batch.tokens[0].mean(dim=1, keepdim=True)
        batch.tokens[0].copy_(first.expand_as(batch.tokens[0]))
        batch.tokens[1].copy_((2 * first).expand_as(batch.tokens[1]))
        added = batch.given_to(fusion).auxiliary_B.mean()
        optimizer.zero_grad()
        added.backward()
        optimizer.step()
        errors.append(added.item())
    assert errors[-1] < 0.1 * errors[0]


def test_one_modality_needs_no_translator():
    of = context(1)
    fusion = model("fedfeatgen", of).train()
    output = patients(of, (1, 1)).given_to(fusion)
    assert output.auxiliary_B is None
    assert output.loss(LABEL[:2], cross_entropy).shape == (2,)
