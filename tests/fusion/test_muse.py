"""MUSE against loops over a graph: messages, the fixed sample outside training, both contrasts."""

import math

import pytest
import torch
from torch.nn import functional

from remind.fusion.muse import supervised_contrast
from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_linear, loop_perceptron

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def loop_graph(fusion, edges, nodes, givers):
    """Patient nodes after all rounds. `edges`: (b, i) → e; modality nodes receive messages from `givers` only."""
    width = fusion.node_mD.shape[1]
    x = {b: torch.ones(width).double() for b in nodes}
    v = dict(enumerate(fusion.node_mD))
    for layer in fusion.rounds:

        def message(sender, e, layer=layer):
            return loop_linear(layer.message, torch.cat([sender, e])).clamp(min=0)

        def mean(messages):
            return sum(messages) / len(messages) if messages else torch.zeros(width).double()

        to_b = {b: mean([message(v[i], e) for (c, i), e in edges.items() if c == b]) for b in nodes}
        to_i = {i: mean([message(x[c], e) for (c, j), e in edges.items() if j == i and c in givers]) for i in v}
        x = {b: loop_linear(layer.update, torch.cat([to_b[b], x[b]])).clamp(min=0) for b in nodes}
        v = {i: loop_linear(layer.update, torch.cat([to_i[i], v[i]])).clamp(min=0) for i in v}
        if layer.edge is not None:
            edges = {(b, i): loop_perceptron(layer.edge, torch.cat([e, x[b], v[i]])) for (b, i), e in edges.items()}
    return x


def edges_of(fusion, batch, presence, start=0):
    found = {}
    for b in range(len(presence)):
        for i in range(presence.shape[1]):
            if presence[b, i]:
                found[start + b, i] = loop_linear(fusion.adapters[i], batch.tokens[i][b].mean(dim=0))
    return found


def loop_head(fusion, x):
    normed = functional.layer_norm(x, x.shape, fusion.norm.weight, fusion.norm.bias)
    return loop_linear(fusion.head, normed)


def test_outside_training_modalities_hear_the_sites_training_patients_only():
    of = context()
    fusion = noisy(model("muse", of).double())
    batch, others = patients(of, GROUPS, dtype=torch.float64), patients(of, [7, 3, 4], seed=5, dtype=torch.float64)
    fusion.set_support(others.pool())
    logits = batch.given_to(fusion).logits_BC
    edges = edges_of(fusion, batch, batch.presence) | edges_of(fusion, others, others.presence, start=100)
    nodes = [*range(len(GROUPS)), 100, 101, 102]
    x = loop_graph(fusion, edges, nodes, givers={100, 101, 102})
    for b in range(len(GROUPS)):
        torch.testing.assert_close(logits[b], loop_head(fusion, x[b]), rtol=0, atol=1e-9)


def test_training_is_on_the_graph_of_the_step():
    of = context()
    fusion = noisy(model("muse", of, options="drop = 0.0").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    output = batch.given_to(fusion)
    nodes = range(len(GROUPS))
    x = loop_graph(fusion, edges_of(fusion, batch, batch.presence), nodes, givers=set(nodes))
    for b in nodes:
        torch.testing.assert_close(output.logits_BC[b], loop_head(fusion, x[b]), rtol=0, atol=1e-9)
    # without dropped edges both views are the graph itself
    torch.testing.assert_close(output.one_BD, output.other_BD)


def test_loss_is_cross_entropy_and_both_contrasts():
    of = context()
    fusion = noisy(model("muse", of, options="contrast = 0.3, supervised = 0.7, temperature = 0.5").double()).train()
    output = patients(of, GROUPS, dtype=torch.float64).given_to(fusion)
    loss = output.loss(LABEL, cross_entropy)
    z, y, number = output.one_BD, output.other_BD, len(GROUPS)
    for b in range(number):
        over = [[math.exp((z[b] @ y[c]).item() / 0.5) for c in range(number)]]
        over.append([math.exp((z[c] @ y[b]).item() / 0.5) for c in range(number)])
        info = sum(-math.log(row[b] / sum(row)) for row in over) / 2
        rest = {c: math.exp((z[b] @ z[c]).item() / 0.5) for c in range(number) if c != b}
        peers = [c for c in rest if LABEL[c] == LABEL[b]]
        contrast = -sum(math.log(rest[c] / sum(rest.values())) for c in peers) / len(peers)
        own = cross_entropy(output.logits_BC[b : b + 1], LABEL[b : b + 1]).item()
        assert loss[b].item() == pytest.approx(own + 0.3 * info + 0.7 * contrast, abs=1e-9)


def test_a_patient_without_peers_has_no_supervised_contrast():
    z = functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1).requires_grad_()
    contrast = supervised_contrast(z, torch.tensor([0, 1, 1]), 0.07)
    assert contrast[0].item() == 0
    contrast.sum().backward()
    assert z.grad.isfinite().all()
    assert supervised_contrast(z[:1], torch.tensor([0]), 0.07).tolist() == [0]
