"""Rule `adapt`: the named parts move, everything else stays to the last bit, experts by their share."""

from typing import Any

import pytest
import torch

from remind.config import Config
from remind.errors import UserError
from remind.federation.rules.adapt import frozen_rows
from remind.methods import methods_of
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 3, 7] * 5, "s2": [3, 5, 7, 7] * 4}
MOVING = {
    "head": "fusion.head.",
    "router": "fusion.blocks.0.router.",
    "groups": "fusion.groups.",
    "experts": "fusion.blocks.0.moe.experts.",
}


def config(rule, fusion="remind", **changes):
    method = {"method.rule": rule, "method.fusion": fusion, "train.warmup-rounds": 0, "train.routing-rounds": 2}
    return Config.from_flat(BASE | method | {"train.lr": 0.05, "train.weight-decay": 0.5} | changes)


def run(folder, settings):
    """First and last tensors of a federation, and what its sites ended with."""
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    before = {n: p.detach().clone() for s in sites for n, p in s.engine.model.encoders.named_parameters(prefix=s.name)}
    first, recorder = Recorder(), Recorder()
    untouched = settings.model_copy(update={"train": settings.train.model_copy(update={"local_steps": 1})})
    FedRemind(untouched, [first]).run(SiteGrid([site(s.name, s.cohort, untouched, folder / "first") for s in sites]))
    FedRemind(settings, [recorder]).run(SiteGrid(sites))
    after = {n: p.detach() for s in sites for n, p in s.engine.model.encoders.named_parameters(prefix=s.name)}
    assert recorder.result.absent == {}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before), "encoders do not move"
    return recorder.models[0], recorder.models[-1]


def moved(folder, settings):
    first, last = run(folder, settings)
    return {n for n in first if not torch.equal(first[n], last[n])}


@pytest.mark.parametrize("parts", ["head", "router", "groups", "experts", "head+router", "head + groups+experts"])
def test_only_the_named_parts_move(parts, tmp_path):
    named = [MOVING[part.strip()] for part in parts.split("+")]
    found = moved(tmp_path, config(f"adapt(parts = '{parts}')"))
    assert found
    assert all(any(n.startswith(prefix) for prefix in named) for n in found)
    assert all(any(n.startswith(prefix) for n in found) for prefix in named)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stage", ["warmup", "routing"])
def test_other_experts_stay_to_the_last_bit(optimizer, stage, tmp_path):
    rounds = {"train.warmup-rounds": 2, "train.routing-rounds": 0} if stage == "warmup" else {}
    settings = config("adapt(parts = 'experts', experts = 0.5)", **rounds, **{"train.optimizer": optimizer})
    first, last = run(tmp_path, settings)
    rule: Any = methods_of(settings).rule
    for name in [n for n in first if n.startswith(MOVING["experts"])]:
        still = rule.frozen_experts(name, 4)
        moving = [e for e in range(4) if e not in still.tolist()]
        assert len(still) == len(moving) == 2
        assert torch.equal(first[name][still], last[name][still])
        assert all(not torch.equal(first[name][e], last[name][e]) for e in moving)


def test_experts_are_drawn_by_the_seed_alike_for_weights_and_biases_and_nested():
    def frozen_experts(share, seed, name="fusion.blocks.0.moe.experts.w1_EDH"):
        rule: Any = methods_of(config(f"adapt(parts = 'experts', experts = {share})", seed=seed)).rule
        return rule.frozen_experts(name, 16)

    for seed in range(3):
        sets = [set(frozen_experts(share, seed).tolist()) for share in (0.25, 0.5, 1.0)]
        assert [len(s) for s in sets] == [12, 8, 0]
        assert sets[1] < sets[0]
        assert torch.equal(frozen_experts(0.25, seed), frozen_experts(0.25, seed, "fusion.blocks.0.moe.experts.b2_ED"))
    assert len({tuple(frozen_experts(0.25, seed).tolist()) for seed in range(5)}) > 1
    assert len(frozen_experts(0.01, 0)) == 15, "one expert at least moves"


def test_rows_are_held_within_the_block_and_no_longer():
    weight = torch.nn.Parameter(torch.arange(6.0).view(3, 2))
    before, optimizer = weight.detach().clone(), torch.optim.SGD([weight], lr=0.1, weight_decay=1.0, momentum=0.9)
    with frozen_rows(optimizer, {weight: torch.tensor([0, 2])}):
        for _ in range(3):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
    assert torch.equal(weight[[0, 2]], before[[0, 2]])
    assert (weight[1] != before[1]).all()
    optimizer.step()
    assert (weight != before).all()


def test_weighs_as_federated_remind():
    rule, fedremind = methods_of(config("adapt")), methods_of(config("fedremind"))
    sites = {"a": {1: 30, 3: 10}, "b": {3: 40}}
    state = rule.weighing.initial(sites)
    assert state == fedremind.weighing.initial(sites)
    assert rule.weighing.for_site(state, sites, "a") == fedremind.weighing.for_site(state, sites, "a")


@pytest.mark.parametrize("fusion", ["flexmoe", "fusemoe", "moe_retriever", "simmlm", "softmoe"])
def test_routers_of_other_methods_are_found(fusion, tmp_path):
    found = moved(tmp_path, config("adapt(parts = 'router')", fusion))
    assert found
    assert all({"router", "gate", "gates"}.intersection(n.split(".")) for n in found)


def test_a_model_without_the_part_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"adapt\(parts = 'experts'\) has nothing to train .* 'attention'"):
        moved(tmp_path, config("adapt(parts = 'experts')", "attention"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("parts = 'heads'", "no part 'heads'"),
        ("experts = 0", "greater than 0"),
        ("experts = 0.5", "lets no expert train"),
    ],
)
def test_options_that_make_no_sense(options, words):
    chosen = config(f"adapt({options})")
    with pytest.raises(UserError, match=words):
        methods_of(chosen)
