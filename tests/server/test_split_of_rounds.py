"""Every method runs whatever the split of rounds over the two stages: none, one or several of each.

By default the objectives of several phases meet every split (`test_method_matrix` runs every method on one). Marked
slow: every two of a kind of fusion model, a kind of objective, a kind of rule and a split meet in some run. Methods are
of one kind if they replace the same parts of their base class that another family calls or asks: beside a method of
another family the same code runs for all of them. They take turns in the runs of their kind.
"""

from itertools import cycle, product

import pytest
import torch

from remind.errors import UserError
from remind.federation.rules.base import Rule
from remind.federation.rules.base import registry as rules
from remind.fusion.base import FusionModel
from remind.fusion.base import registry as fusions
from remind.methods import methods_of
from remind.objectives.base import Objective, Phase
from remind.objectives.base import registry as objectives
from remind_client.engine.model_state import ModelState
from remind_client.rounds.site import Site
from remind_server.rounds.strategy import FedRemind
from remind_server.rounds.tasks import stage_of
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site
from tests.pairwise import pairwise

MIXES = {"s1": [1, 3, 7] * 3, "s2": [3, 7, 7] * 2}
SPLITS = [(w, r) for w, r in product((0, 1, 3), repeat=2) if w + r] + [(4, 0)]
OBJECTIVES, RULES = ([m.name for m in registry.methods()] for registry in (objectives, rules))

# Parts that no other family's methods meet: what they say is for settings, outcomes, exports or privacy.
APART = {
    "encoders",
    "linear",
    "linear_step",
    "not_exported",
    "outcomes",
    "private",
    "ranks",
    "shrinkable",
    "takes_alone",
    "unused",
}


def kinds(registry, base) -> list[tuple[str, ...]]:
    """The names of the methods of each kind."""
    found: dict[frozenset[str], list[str]] = {}
    for method in registry.methods():
        own = {name for one in method.build.__mro__ if one not in base.__mro__ for name in vars(one)}
        replaced = {name for name in own - APART if not name.startswith("_") and hasattr(base, name)}
        found.setdefault(frozenset(replaced), []).append(method.name)
    return [tuple(names) for names in found.values()]


def of_name(registry, name):
    return next(m.build for m in registry.methods() if m.name == name)


def config(split, fusion="attention", objective="erm", rule="lg", **changes):
    encoders = of_name(rules, rule).encoders
    return settings(
        {
            "method.fusion": fusion,
            "method.objective": objective,
            "method.rule": rule,
            "federation.encoders": "local" if "local" in encoders else "shared",
            "train.warmup-rounds": split[0],
            "train.routing-rounds": split[1],
            "train.local-steps": 1,
            "train.batch": 4,
        }
        | changes
    )


def run(folder, chosen) -> Recorder:
    mixes = {"pooled": [*MIXES["s1"], *MIXES["s2"]]} if methods_of(chosen).rule.pooled else MIXES
    sites = [site(name, cohort(mix, seed), chosen, folder) for seed, (name, mix) in enumerate(mixes.items())]
    recorder = Recorder()
    FedRemind(chosen, [recorder]).run(SiteGrid(sites))
    assert [(r.absent, r.answered) for r in recorder.rounds] == [({}, tuple(mixes))] * chosen.train.rounds
    assert recorder.result.absent == {}
    assert all(torch.isfinite(t).all() for t in recorder.result.tensors.values())
    assert all(sum(r.weights_after.values()) == pytest.approx(1) for r in recorder.rounds)
    return recorder


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("objective", ["jtt", "dfr"])
def test_objectives_of_several_phases_on_every_split(objective, split, tmp_path):
    """Looks, restarts and heads that train alone are what a split can break."""
    run(tmp_path, config(split, objective=objective))


def weigh_both(objective, rule):
    return of_name(rules, rule).weighs and of_name(objectives, objective).weighs


def meetings():
    """An objective, a rule, a fusion model and a split for each run."""
    factors = kinds(objectives, Objective), kinds(rules, Rule), kinds(fusions, FusionModel)
    turn = {names: cycle(names) for factor in factors for names in factor}
    rows = pairwise((*factors, SPLITS), lambda objective, rule, *_: not weigh_both(objective[0], rule[0]))
    return [(*(next(turn[names]) for names in row[:3]), row[3]) for row in rows]


MEETINGS = meetings()


def test_every_method_is_in_a_run():
    registered = [{m.name for m in found} for found in (objectives.methods(), rules.methods(), fusions.methods())]
    assert [{row[place] for row in MEETINGS} for place in range(3)] == registered


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "rule", "fusion", "split"), MEETINGS)
def test_every_two_meet(objective, rule, fusion, split, tmp_path):
    run(tmp_path, config(split, fusion, objective, rule))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_rule_that_weighs_refuses_an_objective_that_does_so_too(objective):
    refused = [rule for rule in RULES if weigh_both(objective, rule)]
    assert len(refused) == (
        sum(of_name(rules, r).weighs for r in RULES) if of_name(objectives, objective).weighs else 0
    )
    for rule in refused:
        with pytest.raises(UserError, match="weighs by risk itself"):
            methods_of(config((1, 1), objective=objective, rule=rule))


# Which stage a round is of


def stages(objective, split):
    chosen = settings(
        {"method.objective": objective, "train.warmup-rounds": split[0], "train.routing-rounds": split[1]}
    )
    phases = methods_of(chosen).objective.phases(chosen.train.rounds)
    return [stage_of(chosen, r, phases) for r in range(chosen.train.rounds)]


def test_one_phase_has_the_rounds_as_configured():
    assert stages("erm", (2, 3)) == [(1, 0, 2), (1, 1, 2), (2, 0, 3), (2, 1, 3), (2, 2, 3)]


def test_a_look_is_at_the_model_as_its_training_left_it():
    found = stages("jtt", (8, 4))
    assert [s for s, _, _ in found] == [1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 2, 2]
    assert found[4] == (2, 0, 1), "Φ_k is in use in the first training's last round, and so in the look"
    assert found[5] == (1, 0, 5)


def test_the_head_is_trained_again_on_the_finished_model():
    found = stages("dfr", (8, 4))
    assert [s for s, _, _ in found[:9]] == [1] * 6 + [2] * 3
    assert found[9:] == [(2, 0, 3), (2, 1, 3), (2, 2, 3)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("objective", ["erm", "jtt", "jtt(identify = 0.9)", "dfr", "dfr(retrain = 0.9)"])
def test_a_training_has_only_stages_that_the_run_has_and_begins_with_the_first(objective, split):
    found = stages(objective, split)
    assert {s for s, _, _ in found} <= {s for s, rounds in zip((1, 2), split, strict=True) if rounds}
    assert found[0][0] == (1 if split[0] else 2)
    assert all(0 <= within < rounds for _, within, rounds in found)


def test_a_training_of_one_round_warms_up():
    chosen = settings({"train.warmup-rounds": 1, "train.routing-rounds": 9})
    phases = (Phase(0, 1), Phase(1, 1, train=False), Phase(2, 8, restart=True))
    assert [stage_of(chosen, r, phases)[0] for r in range(4)] == [1, 1, 1, 2]


# What a site keeps over a look


def test_a_look_leaves_the_optimiser_alone(tmp_path):
    chosen = config((4, 0), objective="jtt")
    (one,) = [site("s1", cohort(MIXES["s1"]), chosen, tmp_path)]
    kept = []

    class Watching(Recorder):
        def round_done(self, record, tensors):
            super().round_done(record, tensors)
            kept.append(torch.load(one.store.folder / "state.pt", weights_only=True))

    FedRemind(chosen, [Watching()]).run(SiteGrid([one]))
    before, look, restarted, after = kept
    assert look["encoders"] == before["encoders"]
    assert "objective/wrong" in look["kept"]
    steps = [max(int(s["step"]) for s in k["optimizer"]["state"].values()) for k in kept]
    assert steps == [1, 1, 1, 2], "the second training begins with a fresh optimiser"
    assert before["stage"] == look["stage"] != restarted["stage"] == after["stage"]


def test_a_site_that_misses_the_new_beginning_starts_over_when_it_is_back(tmp_path, monkeypatch):
    chosen = config((5, 0), objective="jtt")
    sites = [site(name, cohort(mix, seed), chosen, tmp_path) for seed, (name, mix) in enumerate(MIXES.items())]
    began: list[tuple[str, int]] = []
    train, reset = Site.train, ModelState.reset

    def watched(one, task, buffer):
        if one.name == "s2" and task.round == 3:
            raise ValueError("not there")
        monkeypatch.setattr(
            ModelState, "reset", lambda state: (began.append((state._patients.site, task.round)), reset(state))
        )
        return train(one, task, buffer)

    monkeypatch.setattr(Site, "train", watched)
    recorder = Recorder()
    FedRemind(chosen, [recorder]).run(SiteGrid(sites))
    assert [set(r.absent) for r in recorder.rounds] == [set(), set(), set(), {"s2"}, set()]
    assert began == [("s1", 3), ("s2", 4)]
