"""Every method learns: clearly better than chance on the synthetic cohort, with one of two seeds in turn."""

from functools import lru_cache

import pytest

from remind.config import Config
from remind.data.sites.hospitals import virtual_hospitals
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.metrics.scores import scores
from remind.metrics.statistics import merge, total
from remind.objectives.base import registry as objectives
from remind_server.rounds.strategy import FedRemind
from tests.builders.grids import SiteGrid
from tests.builders.sites import site

SETTINGS = {
    "synthetic.patients": 1500,
    "synthetic.interaction": 0.0,
    "model.width": 16,
    "model.experts": 4,
    "model.heads": 2,
    "model.tokens": 4,
    "model.dropout": 0.0,
    "train.warmup-rounds": 5,
    "train.routing-rounds": 3,
    "train.local-steps": 12,
    "train.batch": 32,
    "train.lr": 5e-3,
    "train.routing-lr": 2e-3,
    "train.weight-decay": 0.01,
}
SITES = 3
LONGER = {"jtt": {"train.warmup-rounds": 12, "train.routing-rounds": 6}}  # it trains twice


@lru_cache(maxsize=4)
def hospitals(seed: int, pooled: int):
    config = Config.from_flat(SETTINGS | {"seed": seed, "data.pooled": pooled})
    return virtual_hospitals(config.data, config.synthetic, seed, SITES)


def auroc(folder, seed, fusion="remind", objective="groupdro", rule="fedremind") -> float:
    chosen, _ = rules.choose(rule)
    method = {
        "method.fusion": fusion,
        "method.objective": "erm" if chosen.build.weighs else objective,
        "method.rule": rule,
        "federation.encoders": "shared" if "local" not in chosen.build.encoders else "local",
    }
    pooled = SITES if chosen.build.pooled else 0
    config = Config.from_flat(SETTINGS | LONGER.get(objective, {}) | method | {"seed": seed, "data.pooled": pooled})
    sites = [site(h.name, h.cohort, config, folder) for h in hospitals(seed, pooled)]
    result = FedRemind(config).run(SiteGrid(sites))
    everyone = total(merge(result.test.values()))
    found = scores(everyone).auroc
    print(f"{fusion} {objective} {rule} seed {seed}: AUROC {found:.3f} of {everyone.count}")
    return found


def in_turn(registry):
    """Each method with one of two seeds."""
    return [(m.name, i % 2) for i, m in enumerate(registry.methods())]


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "seed"), in_turn(fusions))
def test_every_fusion_model_learns(fusion, seed, tmp_path):
    assert auroc(tmp_path, seed, fusion=fusion) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "seed"), in_turn(objectives))
def test_every_objective_learns(objective, seed, tmp_path):
    floor = 0.68 if objective == "jtt" else 0.75  # at this size its mistakes are noise as often as not
    assert auroc(tmp_path, seed, objective=objective) > floor


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "seed"), in_turn(rules))
def test_every_rule_learns(rule, seed, tmp_path):
    """`adapt` goes on with a trained model; from a fresh one it has random encoders to learn from."""
    choice = {"adapt": "adapt(parts = 'head+router+groups+experts')"}.get(rule, rule)
    assert auroc(tmp_path, seed, rule=choice) > 0.75
