"""Contract tests of every registered rule's step at the coordinator; a new rule is included automatically."""

import pytest
import torch

from remind.config import Config
from remind.federation.aggregation import Reply
from remind.federation.rules.base import Replies, registry
from remind.metrics.statistics import GroupLoss

RULES = [method.name for method in registry.methods()]
every_rule = pytest.mark.parametrize("text", RULES)
SHARED, OWN, LATE = "fusion.x.weight", "fusion.groups.3.residual", "fusion.groups.5.residual"
SHAPES = {SHARED: (3, 2), OWN: (4,)}


def rule(text):
    method, options = registry.choose(text)
    return method.build(options, Config.from_flat({"method.rule": text}))


def start(dtype=torch.float64):
    return {name: torch.ones(shape, dtype=dtype) for name, shape in SHAPES.items()}


def replies_to(one, model, seed, carried):
    """What two sites make of a model: the combiner's average, and the rest that a step may depend on."""
    combiner = one.combiner()
    generator = torch.Generator().manual_seed(seed)
    for name, share in (("a", 0.25), ("b", 0.75)):
        moves = {n: 0.1 * torch.randn(model[n].shape, generator=generator).to(model[n]) for n in carried}
        combiner.take(
            Reply(
                {n: model[n] + move for n, move in moves.items()},
                {"shared": share, "group:3": share, "group:5": share},
                sent=model,
                losses={3: GroupLoss(4, 2.0)},
                site=name,
            )
        )
    return combiner.average(model), Replies(0.1, combiner.weights(), combiner.by_site())


def copied(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(tensor, right[name]) for name, tensor in left.items())


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_is_a_pure_function_that_keeps_names_shapes_and_types(text, dtype):
    one, model = rule(text), start(dtype)
    memory = one.server_init(model)
    for seed in range(3):
        average, replies = replies_to(one, model, seed, SHAPES)
        given = copied(model), copied(average), copied(memory)
        moved, after = one.server_round(model, average, memory, replies)
        again = one.server_round(model, average, memory, replies)
        assert all(same(*pair) for pair in zip(given, (model, average, memory), strict=True)), "changed in place"
        assert same(moved, again[0])
        assert same(after, again[1])
        assert moved.keys() == average.keys()
        assert all(tensor.isfinite().all() for tensor in (*moved.values(), *after.values()))
        for name, tensor in moved.items():
            assert (tensor.shape, tensor.dtype) == (model[name].shape, dtype)
        model, memory = {**model, **moved}, after


@every_rule
def test_a_block_in_no_reply_keeps_its_value_and_its_memory(text):
    """A round in which nobody observed a group leaves no trace in what is the group's."""
    one, found = rule(text), []
    for silent in (False, True):
        model = start()
        memory = one.server_init(model)
        for seed, carried in enumerate([SHAPES, [SHARED], SHAPES]):
            if carried is not SHAPES and not silent:
                continue
            average, replies = replies_to(one, model, seed, carried)
            moved, after = one.server_round(model, average, memory, replies)
            assert moved.keys() == set(carried)
            if carried is not SHAPES:
                of_group = {n: t for n, t in memory.items() if n.endswith(OWN)}
                assert same(of_group, {n: t for n, t in after.items() if n.endswith(OWN)})
            model, memory = {**model, **moved}, after
        found.append(model[OWN])
    assert torch.equal(*found)


@every_rule
def test_a_group_that_appears_later_has_no_memory_yet(text):
    one, model = rule(text), start()
    memory = one.server_init(model)
    average, replies = replies_to(one, model, 0, SHAPES)
    moved, memory = one.server_round(model, average, memory, replies)
    model = {**model, **moved, LATE: torch.zeros(4, dtype=torch.float64)}
    average, replies = replies_to(one, model, 1, model)
    moved, memory = one.server_round(model, average, memory, replies)
    assert moved.keys() == model.keys()
    assert moved[LATE].isfinite().all()
    assert moved[LATE].any()


@every_rule
def test_a_site_receives_the_tensors_of_the_model_by_their_names(text):
    one, model = rule(text), start()
    memory = one.server_init(model)
    average, replies = replies_to(one, model, 0, SHAPES)
    moved, memory = one.server_round(model, average, memory, replies)
    for site in ("a", "b", "new"):
        received = one.for_site(site, moved, memory)
        assert {n: (t.shape, t.dtype) for n, t in received.items()} == {n: (t.shape, t.dtype) for n, t in moved.items()}
    assert same(one.for_site("new", moved, memory), moved), "who never answered receives the common model"


@every_rule
def test_words_of_its_memory_are_those_that_it_declares(text):
    """Entries `<word>/…` of the memory reach sites, or outlast a stage, only if the rule names the word."""
    one, model = rule(text), start()
    average, replies = replies_to(one, model, 0, SHAPES)
    _, memory = one.server_round(model, average, one.server_init(model), replies)
    words = {name.partition("/")[0] for name in memory if "/" in name}
    assert set(one.broadcasts) <= words
    assert set(one.lasting) <= words
