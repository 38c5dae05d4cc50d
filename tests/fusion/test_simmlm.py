"""SimMLM against loops: the mixture over present modalities, experts alone, more against fewer."""

import pytest
import torch

from remind.fusion.simmlm import SimMLMOptions
from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_head, loop_norm, loop_perceptron, loop_softmax

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def expert_logits(fusion, batch, b):
    """o_i of the modalities that patient b has."""
    own = {}
    for i, (norm, hidden) in enumerate(fusion.hidden):
        if batch.presence[b, i]:
            mean = sum(batch.tokens[i][b]) / len(batch.tokens[i][b])
            own[i] = loop_head(hidden, fusion.head[i], loop_norm(norm, mean))
    return own


def mixture(fusion, of, batch, b, present):
    """o = Σ w_i·o_i over `present`."""
    own = expert_logits(fusion, batch, b)
    inputs = [
        sum(batch.tokens[i][b]) / len(batch.tokens[i][b]) if i in present else torch.zeros(of.width).double()
        for i in range(len(of.tokens))
    ]
    score = loop_perceptron(fusion.gate, torch.cat(inputs))
    weight = loop_softmax(torch.stack([score[i] for i in present]))
    return sum(w * own[i] for w, i in zip(weight, present, strict=True)), dict(zip(present, weight, strict=True))


def members(batch, b):
    return [i for i in range(batch.presence.shape[1]) if batch.presence[b, i]]


def test_mixture_equals_the_loop():
    of = context()
    fusion = noisy(model("simmlm", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    output = batch.given_to(fusion)
    for b in range(len(GROUPS)):
        logits, weight = mixture(fusion, of, batch, b, members(batch, b))
        torch.testing.assert_close(output.logits_BC[b], logits, rtol=0, atol=1e-10)
        assert output.use_BE[b].tolist() == pytest.approx([weight[i].item() if i in weight else 0.0 for i in range(3)])


def test_stage_one_trains_each_expert_alone_and_the_gate_not_at_all():
    of = context()
    fusion = noisy(model("simmlm", of).double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    loss = batch.given_to(fusion, routing=False).loss(LABEL, cross_entropy)
    for b in range(len(GROUPS)):
        own = expert_logits(fusion, batch, b)
        expected = sum(cross_entropy(o.unsqueeze(0), LABEL[b : b + 1]).item() for o in own.values())
        assert loss[b].item() == pytest.approx(expected, abs=1e-10)
    loss.sum().backward()
    assert all(p.grad is None for p in fusion.gate.parameters())
    alone = batch.take([4]).given_to(fusion, routing=False).loss(LABEL[4:5], cross_entropy)
    fusion.zero_grad()
    alone.sum().backward()
    for part in (fusion.hidden, fusion.head):
        assert [any(p.grad.any() for p in expert.parameters()) for expert in part] == [True, False, False]


def test_stage_one_predicts_with_equal_weights():
    of = context()
    fusion = noisy(model("simmlm", of).double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion, routing=False).logits_BC
    for b in range(len(GROUPS)):
        own = expert_logits(fusion, batch, b)
        torch.testing.assert_close(logits[b], sum(own.values()) / len(own), rtol=0, atol=1e-10)


def test_stage_two_ranks_more_over_fewer(monkeypatch):
    of = context()
    fusion = noisy(model("simmlm", of, options="ranking = 0.7").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    fewer = {0: [2], 1: [1], 2: [0, 1], 3: [0], 4: [0], 5: [1]}  # patients 1 and 4 have one modality
    drawn = torch.tensor([[i in fewer[b] for i in range(3)] for b in range(len(GROUPS))])
    monkeypatch.setattr("remind.fusion.simmlm.draw_fewer", lambda presence: drawn)
    loss = batch.given_to(fusion).loss(LABEL, cross_entropy)
    ranked = 0
    for b in range(len(GROUPS)):
        more, _ = mixture(fusion, of, batch, b, members(batch, b))
        less, _ = mixture(fusion, of, batch, b, fewer[b])
        a, c = (cross_entropy(o.unsqueeze(0), LABEL[b : b + 1]).item() for o in (more, less))
        assert loss[b].item() == pytest.approx(a + c + 0.7 * max(a - c, 0), abs=1e-9)
        ranked += a > c + 1e-9
    assert ranked, "the example must rank somebody"


def test_one_modality_counts_twice_and_is_not_ranked():
    of = context(dropout=0.5)
    fusion = model("simmlm", of).train()
    torch.manual_seed(0)
    output = patients(of, (1, 2, 4) * 5).given_to(fusion)
    assert torch.equal(output.logits_BC, output.fewer_BC)


def test_settings_of_the_paper():
    assert SimMLMOptions().ranking == 0.1
