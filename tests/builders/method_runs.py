"""Small runs of any method, from enrolment to the test table."""

from itertools import cycle

import pytest

from remind.config import Config
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.objectives.base import registry as objectives
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 3, 7] * 5, "s2": [3, 5, 7, 7] * 4}


ROUNDS = {"train.warmup-rounds": 2, "train.routing-rounds": 2}


def config(fusion="remind", objective="groupdro", rule="fedremind", **changes) -> Config:
    chosen = next(m for m in rules.methods() if m.name == rule.partition("(")[0])
    encoders = "shared" if "local" not in chosen.build.encoders else "local"
    if chosen.build.weighs and objective == "groupdro":
        objective = "erm"
    method = {"method.fusion": fusion, "method.objective": objective, "method.rule": rule}
    return Config.from_flat(BASE | ROUNDS | method | {"federation.encoders": encoders} | changes)


def run(folder, settings, mixes=None):
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate((mixes or MIXES).items())]
    recorder = Recorder()
    FedRemind(settings, [recorder]).run(SiteGrid(sites))
    return recorder, sites


def completes(folder, settings):
    """Run two rounds of the first stage, which use what the one before left, and one of the second."""
    train = settings.train.model_copy(update={"warmup_rounds": 2, "routing_rounds": 1})
    recorder, _ = run(folder, settings.model_copy(update={"train": train}))
    assert recorder.result.absent == {}
    assert len(recorder.rounds) == 3
    assert all(r.answered == ("s1", "s2") for r in recorder.rounds)
    assert all(sum(r.weights_after.values()) == pytest.approx(1) for r in recorder.rounds)
    assert {k for of in recorder.result.test.values() for k in of} == {1, 3, 5, 7}
    return recorder


def together() -> list[tuple[str, str, str]]:
    """As few runs as rules or fusion models: each has the next fusion model, and the next objective its rule allows.

    `test_split_of_rounds` runs every two kinds of methods, marked slow.
    """
    fusion = cycle([m.name for m in fusions.methods()])
    objective, unweighed = (
        cycle([m.name for m in objectives.methods() if weighing or not m.build.weighs]) for weighing in (True, False)
    )
    run_here = [m for m in rules.methods() if not m.build.pooled]
    rows = [(next(fusion), next(unweighed if m.build.weighs else objective), m.name) for m in run_here]
    more = max(len(fusions.methods()) - len(rows), 0)
    return rows + [(next(fusion), next(objective), "fedremind") for _ in range(more)]
