"""MoE-Retriever against a loop over patients, tokens and experts."""

import pytest
import torch
from pydantic import ValidationError

from remind.fusion.base import registry
from remind.fusion.moe_retriever import MoERetrieverOptions
from remind.fusion.sparse import balance_loss
from remind.groups import members
from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_attention, loop_expert, loop_linear, loop_norm, loop_perceptron, loop_top_k

GROUPS = (5, 2, 7, 5, 1, 6)
OPTIONS = "own-experts = 3, shared-experts = 2, top-k = 2"
OWN, SHARED = 3, 2


def slow_retrieval(fusion, of, batch, b, missing, support):
    """Z_T of one patient. `support` (n, l, D)."""
    own = [batch.tokens[i][b] for i in members(batch.group[b].item())]
    tokens = torch.cat([*support, *own])
    normed = torch.stack([loop_norm(fusion.context_norm, t) for t in tokens])
    tokens = tokens + loop_attention(fusion.context_attention, normed)
    shared = list(range(len(of.tokens) * OWN, len(of.tokens) * OWN + SHARED))
    allowed = [*range(missing * OWN, (missing + 1) * OWN), *shared] if len(support) else shared
    routed = []
    for t in tokens:
        x = loop_norm(fusion.moe_norm, t)
        score = loop_linear(fusion.gate.linear, x)
        kept = loop_top_k(torch.stack([score[e] for e in allowed]), 2)
        routed.append(torch.stack([w * loop_expert(fusion.moe.experts, allowed[e], x) for e, w in kept.items()]).sum(0))
    length, start = of.tokens[missing], len(support) * of.tokens[missing]
    means = []
    for z in own:
        means.append(torch.stack(routed[start : start + len(z)]).mean(0))
        start += len(z)
    inter = torch.stack(means).mean(0)
    if not len(support):
        return torch.stack([inter] * length)
    intra = [torch.stack(routed[t : len(support) * length : length]).mean(0) for t in range(length)]
    return torch.stack([(a + inter) / 2 for a in intra])


def slow(fusion, of, batch, b, draw):
    """Logits of one patient; `draw(group, missing)` gives the supporting tokens, None: no retrieval."""
    group = batch.group[b].item()
    parts = []
    for i, length in enumerate(of.tokens):
        if group >> i & 1:
            parts.append(batch.tokens[i][b])
        elif draw is None:
            parts.append(torch.zeros(length, of.width, dtype=torch.float64))
        else:
            parts.append(slow_retrieval(fusion, of, batch, b, i, draw(group, i)))
    z = torch.cat(parts) + fusion.position_MD
    layer = fusion.layer
    z = z + loop_attention(layer.attention, torch.stack([loop_norm(layer.attention_norm, t) for t in z]))
    z = [t + loop_perceptron(layer.mlp, loop_norm(layer.mlp_norm, t)) for t in z]
    means, start = [], 0
    for length in of.tokens:
        means.append(sum(loop_norm(fusion.norm, t) for t in z[start : start + length]) / length)
        start += length
    return loop_linear(fusion.head, torch.cat(means))


def check(fusion, of, routing, draw):
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion, routing).logits_BC
    for b in range(len(GROUPS)):
        torch.testing.assert_close(logits[b], slow(fusion, of, batch, b, draw), rtol=0, atol=1e-9)


def test_equals_the_loop_with_support():
    of = context()
    fusion = noisy(model("moe_retriever", of, options=OPTIONS).double())
    pool = patients(of, [7, 7, 5, 3, 6, 7], seed=9, dtype=torch.float64).pool()
    fusion.set_support(pool)
    check(fusion, of, True, lambda group, missing: pool.draw(group, missing, 1, fixed=True)[0])


def test_equals_the_loop_without_support():
    of = context()
    fusion = noisy(model("moe_retriever", of, options=OPTIONS).double())
    check(fusion, of, True, lambda group, missing: torch.zeros(0, of.tokens[missing], of.width))
    fusion.set_support(patients(of, [1, 2, 4], dtype=torch.float64).pool())  # nobody has two modalities
    check(fusion, of, True, lambda group, missing: torch.zeros(0, of.tokens[missing], of.width))


def test_warm_up_does_not_retrieve():
    of = context()
    fusion = noisy(model("moe_retriever", of, options=OPTIONS).double())
    fusion.set_support(patients(of, [7, 7], dtype=torch.float64).pool())
    check(fusion, of, False, None)
    output = patients(of, GROUPS, dtype=torch.float64).given_to(fusion.train(), routing=False)
    assert output.use_BE is None
    assert output.auxiliary_B is None
    output.logits_BC.sum().backward()
    assert all(
        p.grad is None for part in (fusion.gate, fusion.moe, fusion.context_attention) for p in part.parameters()
    )


class Asked:
    """A pool that notes what it is asked for."""

    def __init__(self, pool):
        self.pool, self.calls = pool, []

    def draw(self, group, modality, patients, fixed):
        self.calls.append((group, modality, patients, fixed))
        return self.pool.draw(group, modality, patients, fixed)


@pytest.mark.parametrize("training", [True, False])
def test_the_pool_is_asked_once_per_group_and_missing_modality(training):
    of = context()
    fusion = model("moe_retriever", of).train(training)
    pool = Asked(patients(of, [7, 7, 7], seed=9).pool())
    fusion.set_support(pool)
    patients(of, GROUPS).given_to(fusion)
    fixed = not training
    assert sorted(pool.calls) == [
        (1, 1, 1, fixed), (1, 2, 1, fixed), (2, 0, 1, fixed), (2, 2, 1, fixed), (5, 1, 2, fixed), (6, 0, 1, fixed),
    ]  # fmt: skip


def test_supporting_patients_matter_and_their_order_does_not():
    of = context()
    fusion = noisy(model("moe_retriever", of).double())
    batch = patients(of, (5, 6), dtype=torch.float64)
    logits = []
    for tokens in (lambda z: z, lambda z: z.flip(1), lambda z: z.cos()):
        pool = patients(of, [7, 7], seed=9, dtype=torch.float64).pool()
        fusion.set_support(Turned(pool, tokens))
        logits.append(batch.given_to(fusion).logits_BC)
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-11)
    assert (logits[2] - logits[0]).abs().min() > 1e-6


class Turned:
    def __init__(self, pool, turn):
        self.pool, self.turn = pool, turn

    def draw(self, *asked, **how):
        return self.turn(self.pool.draw(*asked, **how))


def test_use_and_balance():
    of = context()
    fusion = noisy(model("moe_retriever", of, options=OPTIONS + ", auxiliary = 0.5").double()).train()
    fusion.set_support(patients(of, [3, 7], seed=9, dtype=torch.float64).pool())
    seen = []
    fusion.gate.register_forward_hook(lambda _, inputs, routed: seen.append((inputs[1], routed)))
    output = patients(of, GROUPS, dtype=torch.float64).given_to(fusion)
    losses = [balance_loss(r.weight_NE[:, allowed], r.load_NE[:, allowed]).item() for allowed, r in seen]
    assert len(losses) == 6
    assert output.auxiliary_B.tolist() == pytest.approx([0.5 * sum(losses) / 6] * len(GROUPS))
    assert output.use_BE.sum(dim=1).tolist() == pytest.approx([1, 1, 0, 1, 1, 1]), "patient 2 lacks nothing"
    assert output.use_BE[0, :OWN].sum() == 0, "modality 0's experts make up modality 0, which this patient has"


def test_patients_tokens_are_in_no_message_and_no_checkpoint():
    of = context()
    fusion = model("moe_retriever", of)
    before = set(fusion.state_dict())
    fusion.set_support(patients(of, [7, 7]).pool())
    assert set(fusion.state_dict()) == before
    assert set(dict(fusion.named_buffers())) == set()


def test_encoders_of_supporting_patients_get_no_gradient():
    of = context()
    supporting = patients(of, [7, 7], seed=9)
    for z in supporting.tokens:
        z.requires_grad_()
    fusion = model("moe_retriever", of).train()
    fusion.set_support(supporting.pool())
    patients(of, GROUPS).given_to(fusion).loss(torch.zeros(6, dtype=torch.long), cross_entropy).sum().backward()
    assert all(z.grad is None for z in supporting.tokens)


def test_settings_of_the_paper():
    options = MoERetrieverOptions()
    assert (options.own_experts, options.shared_experts, options.top_k) == (8, 4, 4)
    chosen = registry.choose(f"moe_retriever({OPTIONS})")[1]
    assert chosen == MoERetrieverOptions(own_experts=3, shared_experts=2, top_k=2)
    with pytest.raises(ValidationError, match="more than the 4 shared experts"):
        MoERetrieverOptions(top_k=5)
