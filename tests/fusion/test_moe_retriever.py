"""MoE-Retriever against a loop over patients, tokens and experts."""

import pytest
import torch
from pydantic import ValidationError

from remind.fusion.base import group_of, registry
from remind.fusion.moe_retriever import MoERetrieverOptions
from remind.fusion.more_vs_fewer import draw_fewer
from remind.fusion.sparse import cv_squared
from remind.fusion.support import TokenPool
from remind.groups import members
from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_attention, loop_expert, loop_linear, loop_norm, loop_perceptron, loop_softmax

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
        share = loop_softmax(torch.stack([loop_linear(fusion.gate, x)[e] for e in allowed]))
        kept = {e: share[e] for e in sorted(range(len(allowed)), key=lambda e: -share[e])[:2]}
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
    fusion.set_support(patients(of, [1, 2, 4], dtype=torch.float64).pool())  # no patient has two modalities
    check(fusion, of, True, lambda group, missing: torch.zeros(0, of.tokens[missing], of.width))


def test_warm_up_does_not_retrieve():
    of = context()
    fusion = noisy(model("moe_retriever", of, options=OPTIONS + ", end-to-end = false").double())
    assert not fusion.compares
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
    """A pool that records its requests."""

    def __init__(self, pool):
        self.pool, self.calls = pool, []

    def draw(self, group, modality, patients, fixed, barred=None):
        self.calls.append((group, modality, patients, fixed))
        return self.pool.draw(group, modality, patients, fixed, barred)


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
    fusion.moe.register_forward_hook(lambda _, inputs, out: seen.append(inputs[1]))
    output = patients(of, GROUPS, dtype=torch.float64).given_to(fusion)
    losses = []
    for weight in seen:  # all have support: experts of one modality and the shared ones may have a weight
        own = next(t for t in range(3) if weight[:, t * OWN : (t + 1) * OWN].any())
        allowed = [*range(own * OWN, (own + 1) * OWN), *range(3 * OWN, 3 * OWN + SHARED)]
        losses.append(cv_squared(weight.sum(dim=0)[allowed]).item())
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


def test_weights_are_the_largest_of_the_softmax_and_have_no_noise():
    """Eq. 1: they sum to less than 1 where more experts may be used than are kept; training changes nothing."""
    of = context()
    fusion = noisy(model("moe_retriever", of, options=OPTIONS).double())
    fusion.set_support(patients(of, [7], seed=9, dtype=torch.float64).pool())
    batch, seen = patients(of, (5, 6), dtype=torch.float64), []
    fusion.moe.register_forward_hook(lambda _, inputs, out: seen.append(inputs[1]))
    for training in (False, True, True):
        batch.given_to(fusion.train(training))
    for weights in zip(*(seen[i : i + 2] for i in (0, 2, 4)), strict=True):
        assert ((weights[0] > 0).sum(dim=1) == 2).all()
        assert (weights[0].sum(dim=1) < 0.999).any()
        assert torch.equal(weights[1], weights[2])


def test_in_stage_one_the_patients_of_a_step_support_each_other_with_gradient():
    of = context()
    fusion = noisy(model("moe_retriever", of)).train()
    fusion.set_support(patients(of, [7, 7], seed=9).pool())  # for evaluation; training does not use it
    batch = patients(of, (5, 7, 7))
    for z in batch.tokens:
        z.requires_grad_()
    batch.given_to(fusion, routing=False).logits_BC[0].square().sum().backward()
    of_others = [z.grad[1:].abs().sum().item() for z in batch.tokens]
    assert of_others[1] > 0, "the first patient lacks modality 1"
    assert of_others[0] == of_others[2] == 0


def test_outside_training_stage_one_asks_the_sample():
    of = context()
    fusion = noisy(model("moe_retriever", of, options=OPTIONS).double())
    assert fusion.compares == 256
    pool = patients(of, [7, 7, 5, 3, 6, 7], seed=9, dtype=torch.float64).pool()
    fusion.set_support(pool)
    check(fusion, of, False, lambda group, missing: pool.draw(group, missing, 1, fixed=True)[0])


@pytest.mark.parametrize("routing", [False, True])
def test_nobody_gets_its_own_hidden_tokens_back(routing):
    """All patients have all modalities, half of them hidden: no draw gives a patient itself as support."""
    of = context()
    batch = patients(of, (7,) * 12)
    for i, z in enumerate(batch.tokens):
        z[:] = torch.arange(12.0)[:, None, None] + 100.0 * i
    fusion = model("moe_retriever", of, options="modality-dropout = 0.5").train()
    index = torch.arange(12) * 3 + 1
    fusion.set_support(TokenPool(batch.tokens, batch.presence, 0, index_N=index))
    drawn = []
    retrieve = fusion._retrieve_one
    fusion._retrieve_one = lambda own, intra, missing: (
        drawn.append((own, intra, missing)) or retrieve(own, intra, missing)
    )
    torch.manual_seed(0)
    for _ in range(20):
        fusion.set_step_patients(index)
        batch.given_to(fusion, routing)
    asked = 0
    for own, intra, _ in drawn:
        mine, theirs = own[0][:, 0, 0] % 100, intra[:, :, 0, 0] % 100
        assert not (theirs == mine.unsqueeze(1)).any()
        asked += theirs.numel()
    assert asked > 100


@pytest.mark.parametrize("routing", [False, True])
def test_nor_what_the_ranking_loss_hides(routing):
    """``train.ranking`` gives each patient a second time, with fewer modalities, by presence alone."""
    of = context()
    batch = patients(of, (7,) * 12)
    for i, z in enumerate(batch.tokens):
        z[:] = torch.arange(12.0)[:, None, None] + 100.0 * i
    fusion, index, drawn = model("moe_retriever", of).train(), torch.arange(12), []
    fusion.set_support(TokenPool(batch.tokens, batch.presence, 0, index_N=index))
    retrieve = fusion._retrieve_one
    fusion._retrieve_one = lambda own, intra, missing: drawn.append((own, intra)) or retrieve(own, intra, missing)
    torch.manual_seed(0)
    for _ in range(10):
        fewer = draw_fewer(batch.presence, torch.Generator().manual_seed(0))
        fusion.set_step_patients(index)
        fusion(batch.tokens, fewer, group_of(fewer), routing)
    assert sum(intra.numel() for _, intra in drawn) > 100
    for own, intra in drawn:
        assert not (intra[:, :, 0, 0] % 100 == (own[0][:, 0, 0] % 100).unsqueeze(1)).any()


def test_the_defaults_are_the_papers():
    options = MoERetrieverOptions()
    assert options.end_to_end
    assert options.auxiliary == 0, "the paper has no loss of balance; the release has"
    fusion = model("moe_retriever", context()).train()
    batch, label = patients(context(), (5, 6, 7, 7)), torch.tensor([0, 1, 2, 0])
    output = batch.given_to(fusion, routing=False)
    torch.testing.assert_close(output.loss(label, cross_entropy), cross_entropy(output.logits_BC, label))


def test_patients_that_an_objective_has_mixed_get_nobody_of_the_step():
    of = context()
    batch = patients(of, (3,) * 2)
    pooled = patients(of, (7,) * 6)
    for i, z in enumerate(pooled.tokens):
        z[:] = torch.arange(6.0)[:, None, None] + 100.0 * i
    fusion = model("moe_retriever", of).train()
    fusion.set_support(TokenPool(pooled.tokens, pooled.presence, 0, index_N=torch.arange(6)))
    fusion.set_step_patients(torch.tensor([0, 1, 2]))  # three patients, two mixtures of them
    drawn = []
    retrieve = fusion._retrieve_one
    fusion._retrieve_one = lambda own, intra, missing: drawn.append(intra) or retrieve(own, intra, missing)
    for _ in range(20):
        batch.given_to(fusion)
    found = set((torch.cat(drawn)[:, :, 0, 0] % 100).flatten().tolist())
    assert found == {3.0, 4.0, 5.0}


def test_settings_of_the_paper():
    options = MoERetrieverOptions()
    assert (options.own_experts, options.shared_experts, options.top_k) == (8, 4, 4)
    assert options.end_to_end
    assert options.auxiliary == 0, "the paper has none"
    chosen = registry.choose(f"moe_retriever({OPTIONS})")[1]
    assert chosen == MoERetrieverOptions(own_experts=3, shared_experts=2, top_k=2)
    with pytest.raises(ValidationError, match="more than the 4 shared experts"):
        MoERetrieverOptions(top_k=5)
