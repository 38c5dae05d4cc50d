"""Flex-MoE against a loop over patients, tokens and experts; its bank, its gate's targets, its warm-up."""

import math

import pytest
import torch

from remind.fusion.base import registry
from remind.fusion.flexmoe import FREE, FlexMoEOptions, expert_of
from remind.fusion.sparse import balance_loss
from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.fusion.loops import loop_attention, loop_expert, loop_linear, loop_norm, loop_top_k

GROUPS = (5, 2, 7, 5, 1, 6)  # 6 is unseen
KNOWN = (5, 2, 7, 1)


def slow(fusion, of, batch, b):
    """Logits of one patient, from the equations."""
    group = batch.group[b].item()
    parts = []
    for i, length in enumerate(of.tokens):
        if group >> i & 1:
            parts.append(batch.tokens[i][b])
        elif group in KNOWN:
            parts.append(fusion.groups[str(group)].tokens[str(i)])
        else:
            banks = [fusion.groups[str(g)].tokens[str(i)] for g in KNOWN if not g >> i & 1]
            parts.append(sum(banks) / len(banks))
            assert parts[-1].shape == (length, of.width)
    z = torch.cat(parts) + fusion.position_MD
    z = z + loop_attention(fusion.attention, torch.stack([loop_norm(fusion.attention_norm, t) for t in z]))
    out = []
    for t in z:
        x = loop_norm(fusion.moe_norm, t)
        kept = loop_top_k(loop_linear(fusion.gate.linear, x), 2)
        out.append(t + sum(w * loop_expert(fusion.moe.experts, e, x) for e, w in kept.items()))
    means, start = [], 0
    for length in of.tokens:
        block = [loop_norm(fusion.norm, t) for t in out[start : start + length]]
        means.append(sum(block) / length)
        start += length
    return loop_linear(fusion.head, torch.cat(means))


@pytest.mark.parametrize("routing", [True, False])
def test_equals_the_loop(routing):
    of = context()
    fusion = noisy(model("flexmoe", of, KNOWN, options="experts = 5, top-k = 2").double())
    batch = patients(of, GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion, routing).logits_BC
    for b in range(len(GROUPS)):
        torch.testing.assert_close(logits[b], slow(fusion, of, batch, b), rtol=0, atol=1e-9)


def test_the_bank_holds_what_a_group_lacks_and_no_more():
    of = context()
    fusion = model("flexmoe", of, (1, 5, 7))
    shapes = {n: tuple(p.shape) for n, p in fusion.named_parameters() if n.startswith("groups.")}
    assert shapes == {"groups.1.tokens.1": (1, 8), "groups.1.tokens.2": (2, 8), "groups.5.tokens.1": (1, 8)}


def test_a_groups_bank_learns_from_its_own_patients():
    of = context()
    fusion = model("flexmoe", of, KNOWN).train()
    patients(of, (5, 7)).given_to(fusion).loss(torch.tensor([0, 1]), cross_entropy).sum().backward()
    moved = {n for n, p in fusion.named_parameters() if n.startswith("groups.") and p.grad is not None and p.grad.any()}
    assert moved == {"groups.5.tokens.1"}


@pytest.mark.parametrize("experts", [16, 40])
@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
def test_groups_have_an_expert_each_while_there_are_enough(modalities, experts):
    full = (1 << modalities) - 1
    targets = {g: expert_of(g, full, experts) for g in range(1, full + 1)}
    assert targets.pop(full) == FREE
    assert len(set(targets.values())) == len(targets)
    assert all(0 < e < experts for e in targets.values())


def test_larger_groups_are_spread_over_the_experts():
    full, experts = (1 << 8) - 1, 16
    count = [0] * experts
    for group in range(1, full):
        count[expert_of(group, full, experts)] += 1
    assert count[FREE] == 0
    expected = (full - 1) / (experts - 1)
    assert all(0.4 * expected < n < 1.8 * expected for n in count[1:])
    assert all(0 < expert_of(1 << i | 1 << j, (1 << 62) - 1, 2) < 2 for i in (0, 40, 61) for j in (5, 60))


def test_auxiliary_is_balance_and_the_pull_of_patients_who_lack_something():
    of = context()
    fusion = noisy(model("flexmoe", of, KNOWN, options="experts = 5, top-k = 2, auxiliary = 0.5").double()).train()
    batch = patients(of, GROUPS, dtype=torch.float64)
    seen = []
    fusion.gate.register_forward_hook(lambda _, __, routed: seen.append(routed))
    torch.manual_seed(0)
    auxiliary = batch.given_to(fusion).auxiliary_B
    (routed,) = seen
    tokens = sum(of.tokens)
    balance = balance_loss(routed.weight_NE, routed.load_NE).item()
    for b, group in enumerate(GROUPS):
        expected = balance
        if group != of.full:
            target = expert_of(group, of.full, 5)
            for t in range(tokens):
                score = routed.score_NE[b * tokens + t].tolist()
                expected += (math.log(sum(math.exp(s) for s in score)) - score[target]) / tokens
        assert auxiliary[b].item() == pytest.approx(0.5 * expected, rel=1e-9)


def test_warm_up_has_no_pull():
    of = context()
    fusion = noisy(model("flexmoe", of, KNOWN).double()).train()
    auxiliary = patients(of, GROUPS, dtype=torch.float64).given_to(fusion, routing=False).auxiliary_B
    assert len(set(auxiliary.tolist())) == 1, "balance alone is alike for all"


def test_the_pull_wins_in_the_end():
    of = context()
    fusion = model("flexmoe", of, KNOWN, options="auxiliary = 1.0").train()
    batch = patients(of, (1, 2, 5) * 4)
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.02)
    torch.manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        batch.given_to(fusion).loss(torch.zeros(12, dtype=torch.long), cross_entropy).mean().backward()
        optimizer.step()
    use = batch.given_to(fusion.eval()).use_BE
    assert use.argmax(dim=1).tolist() == [expert_of(g, of.full, 16) for g in (1, 2, 5) * 4]


def test_warm_up_is_for_patients_with_all_modalities_or_the_most_there_are():
    fusion = model("flexmoe", context())
    presence = patients(context(), (5, 7, 2, 7)).presence
    assert fusion.trains_on(presence, routing=False).tolist() == [False, True, False, True]
    assert fusion.trains_on(presence, routing=True).all()
    none_is_full = patients(context(), (5, 2, 6)).presence
    assert fusion.trains_on(none_is_full, routing=False).tolist() == [True, False, True]


def test_settings_of_the_paper():
    options = FlexMoEOptions()
    assert (options.experts, options.top_k, options.expansion, options.auxiliary) == (16, 4, 2, 0.01)
    assert registry.choose("flexmoe(experts = 8, top-k = 2)")[1] == FlexMoEOptions(experts=8, top_k=2)
