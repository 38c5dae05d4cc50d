"""Contract tests of every registered fusion method; a new method is included automatically."""

import pytest
import torch

from remind.federation.blocks import Entry, block_of
from remind.fusion.base import build_fusion, group_of, registry
from tests.builders.fusions import (
    CLASSES,
    accuracy_after_training,
    context,
    cross_entropy,
    model,
    noisy,
    patients,
    problem,
)

METHODS = [method.name for method in registry.methods()]
GROUPS = (5, 2, 7, 5, 1, 6)  # of three modalities; groups 3 and 4 do not occur
STAGES = [False, True]
every_method = pytest.mark.parametrize("name", METHODS)
both_stages = pytest.mark.parametrize("routing", STAGES)


def with_support(name, of, dtype=torch.float32, **changes):
    fusion = model(name, of, GROUPS, **changes).to(dtype)
    fusion.set_support(patients(of, [of.full, 3, of.full, 5, 6, 7], seed=9, dtype=dtype).pool())
    return fusion


@every_method
@both_stages
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_tokens_of_absent_modalities_touch_neither_output_nor_gradient(name, routing, garbage):
    of = context()
    fusion = with_support(name, of)
    batch = patients(of, GROUPS)
    spoilt = patients(of, GROUPS)
    for i, z in enumerate(spoilt.tokens):
        z[~batch.presence[:, i]] = garbage
    outputs, gradients = [], []
    for at in (batch, spoilt):
        for z in at.tokens:
            z.requires_grad_()
        fusion.zero_grad()
        logits = at.given_to(fusion, routing).logits_BC
        logits.square().sum().backward()
        outputs.append(logits)
        gradients.append([p.grad for p in fusion.parameters()] + [z.grad for z in at.tokens])
    assert torch.equal(*outputs)
    for clean, dirty in zip(*gradients, strict=True):
        assert (clean is None) == (dirty is None)
        assert clean is None or torch.equal(clean, dirty)
    assert all(not z.grad[~batch.presence[:, i]].any() for i, z in enumerate(batch.tokens)), (
        "an absent modality has a gradient"
    )


@every_method
@both_stages
def test_training_loss_ignores_absent_modalities_too(name, routing):
    of = context()
    fusion = with_support(name, of).train()
    batch, label = patients(of, GROUPS), torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for garbage in (0.0, float("nan")):
        for i, z in enumerate(batch.tokens):
            z[~batch.presence[:, i]] = garbage
        torch.manual_seed(0)
        losses.append(batch.given_to(fusion, routing).loss(label, cross_entropy))
    assert losses[0].shape == (len(GROUPS),)
    assert losses[0].isfinite().all()
    assert torch.equal(*losses)


@every_method
@both_stages
def test_patients_do_not_see_each_other_and_their_order_does_not_matter(name, routing):
    of = context()
    fusion = noisy(with_support(name, of, torch.float64))
    batch = patients(of, GROUPS, dtype=torch.float64)
    together = batch.given_to(fusion, routing)
    order = [3, 0, 5, 1, 4, 2]
    shuffled = batch.take(order).given_to(fusion, routing)
    torch.testing.assert_close(shuffled.logits_BC, together.logits_BC[order], rtol=0, atol=1e-11)
    for b in range(len(GROUPS)):
        alone = batch.take([b]).given_to(fusion, routing)
        torch.testing.assert_close(alone.logits_BC[0], together.logits_BC[b], rtol=0, atol=1e-11)
        if together.use_BE is not None:
            torch.testing.assert_close(alone.use_BE[0], together.use_BE[b], rtol=0, atol=1e-11)


@every_method
@both_stages
def test_every_present_modality_has_a_say(name, routing):
    of = context()
    fusion = noisy(with_support(name, of, torch.float64))
    batch = patients(of, GROUPS, dtype=torch.float64)
    before = batch.given_to(fusion, routing).logits_BC
    for i, z in enumerate(batch.tokens):
        changed = patients(of, GROUPS, dtype=torch.float64)
        changed.tokens[i] = z + torch.linspace(-1, 1, of.width, dtype=z.dtype)
        moved = (changed.given_to(fusion, routing).logits_BC - before).abs().amax(dim=1)
        assert ((moved > 1e-6) == batch.presence[:, i]).all()


@every_method
@both_stages
@pytest.mark.parametrize("modalities", [1, 3, 8])
def test_any_combination_of_any_number_of_modalities(name, routing, modalities):
    of = context(modalities)
    groups = range(1, of.full + 1) if modalities < 8 else [1, 128, 255, 170, 85, 240, 96, 7]
    fusion = model(name, of, list(groups)[::2])  # every other group is unseen
    fusion.set_support(patients(of, [of.full, of.full, 1], seed=9).pool())
    output = patients(of, list(groups)).given_to(fusion, routing)
    assert output.logits_BC.shape == (len(groups), CLASSES)
    assert output.logits_BC.isfinite().all()


@every_method
def test_without_any_group_or_support(name):
    of = context()
    assert patients(of, GROUPS).given_to(model(name, of)).logits_BC.isfinite().all()


@every_method
def test_an_unseen_group_does_not_train_what_belongs_to_others(name):
    of = context()
    fusion = model(name, of, GROUPS).train()
    patients(of, [3, 4]).given_to(fusion).loss(torch.tensor([0, 1]), cross_entropy).sum().backward()
    touched = {n for n, p in fusion.named_parameters() if n.startswith("groups.") and p.grad is not None}
    assert not touched


@every_method
def test_output_is_repeatable_outside_training(name):
    of = context(dropout=0.5)
    fusion = with_support(name, of, options="modality-dropout = 0.9")
    batch = patients(of, GROUPS)
    assert torch.equal(batch.given_to(fusion).logits_BC, batch.given_to(fusion).logits_BC)
    assert batch.given_to(fusion).auxiliary_B is None


@every_method
@both_stages
def test_double_precision_throughout(name, routing):
    of = context()
    single, double = with_support(name, of), with_support(name, of, torch.float64)
    low = patients(of, GROUPS)
    high = patients(of, GROUPS)
    high.tokens = [z.double() for z in low.tokens]
    pool = patients(of, [7, 7, 3])
    single.set_support(pool.pool())
    pool.tokens = [z.double() for z in pool.tokens]
    double.set_support(pool.pool())
    expected, output = low.given_to(single, routing), high.given_to(double, routing)
    assert output.logits_BC.dtype == torch.float64
    torch.testing.assert_close(output.logits_BC.float(), expected.logits_BC, rtol=1e-4, atol=1e-4)
    double.train()
    assert high.given_to(double, routing).loss(torch.zeros(6, dtype=torch.long), cross_entropy).dtype == torch.float64


@every_method
@both_stages
def test_bfloat16_autocast(name, routing):
    of = context()
    fusion = with_support(name, of).train()
    batch, label = patients(of, GROUPS), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        loss = batch.given_to(fusion, routing).loss(label, cross_entropy)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None)
    fusion.eval()
    with torch.autocast("cpu", torch.bfloat16):
        rough = batch.given_to(fusion, routing).logits_BC.float()
    exact = batch.given_to(fusion, routing).logits_BC
    assert (rough - exact).abs().median() < 0.05 * (1 + exact.abs().max())


@every_method
def test_gradients_reach_every_parameter_in_one_stage_or_the_other(name):
    of = context()
    fusion = with_support(name, of).train()
    reached = set()
    torch.manual_seed(0)
    for seed in range(8):  # sparse experts: another batch uses the experts that one batch does not
        batch, label = patients(of, GROUPS * 8, seed), torch.arange(48) % CLASSES
        for routing in STAGES:
            fusion.zero_grad(set_to_none=True)
            batch.given_to(fusion, routing).loss(label, cross_entropy).sum().backward()
            reached |= {n for n, p in fusion.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
            per_expert = [p.grad for n, p in fusion.named_parameters() if n.endswith("w1_EDH")]
            if routing and seed == 7 and per_expert:
                assert all((grad.flatten(1).abs().sum(dim=1) > 0).float().mean() > 0.8 for grad in per_expert)
    left = {n for n, _ in fusion.named_parameters()} - reached - set(fusion.merged)
    assert left == set()


@every_method
def test_all_that_counts_can_travel(name):
    of = context()
    fusion = with_support(name, of)
    parameters = dict(fusion.named_parameters())
    assert set(fusion.state_dict()) == set(parameters), "a buffer does not travel"
    for key, tensor in parameters.items():
        block = block_of(f"fusion.{key}")
        Entry(name=f"fusion.{key}", block=block, shape=tuple(tensor.shape), dtype="float32")
        assert block == "shared" or int(block.removeprefix("group:")) in GROUPS


@every_method
@both_stages
def test_the_last_layer_is_called_head(name, routing):
    of = context()
    fusion = noisy(with_support(name, of))
    head = {n: p for n, p in fusion.named_parameters() if n.startswith("head.")}
    with torch.no_grad():
        for p in head.values():
            p.zero_()
    logits = patients(of, GROUPS).given_to(fusion, routing).logits_BC
    assert torch.equal(logits, logits[:1, :1].expand_as(logits)), "all that tells patients apart passes through it"
    assert 0 < len(head) < len(dict(fusion.named_parameters()))


@every_method
@both_stages
def test_the_criterion_is_asked_about_the_batch_as_it_is(name, routing):
    of, label = context(), torch.tensor([0, 1, 2, 0, 1, 2])
    asked = []

    def criterion(logits, labels):
        asked.append((logits.shape, labels.tolist()))
        return cross_entropy(logits, labels)

    patients(of, GROUPS).given_to(with_support(name, of).train(), routing).loss(label, criterion)
    assert set(map(str, asked)) == {str((torch.Size((6, CLASSES)), label.tolist()))}


@every_method
def test_equal_seeds_give_equal_models_and_nothing_else_is_disturbed(name):
    of = context()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, other = model(name, of, (5, 2)), model(name, of, (7, 2, 5))
    assert torch.equal(torch.rand(1), expected)
    twin = other.state_dict()
    assert all(torch.equal(tensor, twin[key]) for key, tensor in one.state_dict().items())
    apart = build_fusion(name, of, seed=2).state_dict()
    assert any(not torch.equal(tensor, apart[key]) for key, tensor in one.state_dict().items() if key in apart)


@every_method
def test_groups_come_and_go(name):
    of = context()
    fusion = model(name, of, (5, 2)).double()
    fusion.keep_groups({5, 6, of.full}, seed=1)
    known = set(fusion.known_groups())
    assert known <= {5, 6, of.full}
    assert known in (set(), {5, 6}, {5, 6, of.full})
    assert all(p.dtype == torch.float64 for p in fusion.parameters())
    assert {n.split(".")[1] for n, _ in fusion.named_parameters() if n.startswith("groups.")} == set(map(str, known))


@every_method
def test_the_order_in_which_groups_came_leaves_no_trace(name):
    of = context()
    one, other = model(name, of, (1, 2, 5, 6)), model(name, of, (6, 1, 5, 2))
    unseen = patients(of, (3, 4))
    assert torch.equal(unseen.given_to(one).logits_BC, unseen.given_to(other).logits_BC)


@every_method
def test_twenty_modalities_cost_what_is_observed(name):
    of = context(20)
    fusion = build_fusion(name, of, seed=0)
    shared = sum(p.numel() for p in fusion.parameters())
    fusion.add_groups([5, 1 << 19, of.full], seed=0)
    assert sum(p.numel() for p in fusion.parameters()) - shared <= 3 * sum(of.tokens) * of.width
    fusion.eval()
    assert patients(of, [5, of.full, 1 << 19, 3]).given_to(fusion).logits_BC.isfinite().all()


@every_method
@both_stages
def test_use_of_experts_is_a_distribution(name, routing):
    of = context()
    use_BE = patients(of, GROUPS).given_to(with_support(name, of), routing).use_BE
    if use_BE is None:
        return
    assert (use_BE >= 0).all()
    total_B = use_BE.sum(dim=1)
    assert ((total_B - 1).abs().lt(1e-5) | total_B.eq(0)).all()
    assert not use_BE.requires_grad


@every_method
@both_stages
def test_somebody_trains_in_every_stage(name, routing):
    fusion = model(name, context())
    for groups in (GROUPS, (1, 2), (7,)):
        presence = patients(context(), groups).presence
        chosen = fusion.trains_on(presence, routing)
        assert chosen.shape == (len(groups),)
        assert chosen.dtype == torch.bool
        assert chosen.any()
    assert fusion.trains_on(torch.zeros(0, 3, dtype=torch.bool), routing).shape == (0,)


@every_method
def test_modality_dropout_changes_training_and_nothing_else(name):
    of = context()
    plain, dropping = with_support(name, of), with_support(name, of, options="modality-dropout = 0.5")
    batch, label = patients(of, (7,) * 64), torch.zeros(64, dtype=torch.long)
    assert torch.equal(
        plain.eval()(batch.tokens, batch.presence, batch.group).logits_BC, batch.given_to(dropping).logits_BC
    )
    seen = []
    dropping.train()
    fuse = dropping.fuse
    dropping.fuse = lambda tokens, presence, group, routing: (
        seen.append((tokens, presence, group)),
        fuse(tokens, presence, group, routing),
    )[1]
    assert batch.given_to(dropping).loss(label, cross_entropy).isfinite().all()
    ((tokens, presence, group),) = seen
    assert presence.any(dim=1).all()
    assert 0.3 < presence.float().mean() < 0.7
    assert torch.equal(group, group_of(presence))
    assert all(not z[~presence[:, i]].any() for i, z in enumerate(tokens))


@every_method
def test_learns(name):
    accuracy = accuracy_after_training(name, problem(0), steps=40, seed=0)
    assert accuracy > 0.75, f"{name}: {accuracy:.3f} where always guessing the larger class gives about .5"
