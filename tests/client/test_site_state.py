"""A site's state between rounds does not depend on the process, but on the stage."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from remind.federation.flower import read_as
from remind.federation.messages import Examine, Task
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.strategy import FedRemind
from remind_server.rounds.tasks import examine_task, sites_of, train_tasks
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 1, 3] * 5, "s2": [3, 5, 7] * 5}
ROUNDS = {"train.warmup-rounds": 2, "train.routing-rounds": 2}


class Processes(SiteGrid):
    """Each site is served by several processes in turn, which share nothing but its folder."""

    def __init__(self, *processes):
        super().__init__(processes[0])
        self.turn, self.grids = 0, [SiteGrid(sites) for sites in processes]

    def _work(self, message):
        self.turn += 1
        return self.grids[self.turn // 2 % len(self.grids)]._work(message)


def sites(folder, **changes):
    config = settings(ROUNDS | {"model.dropout": 0.2, "model.hide": 0.2} | changes)
    return [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]


def run(grid, config):
    recorder = Recorder()
    FedRemind(config, [recorder]).run(grid)
    return recorder


def assert_same(a: Recorder, b: Recorder) -> None:
    for one, other in zip(a.models, b.models, strict=True):
        assert all(torch.equal(one[n], other[n]) for n in one)
    assert [r.weights_after for r in a.rounds] == [r.weights_after for r in b.rounds]
    for name, by_group in a.result.test.items():
        for k, statistics in by_group.items():
            assert statistics.loss_sum == b.result.test[name][k].loss_sum


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sites of a run with these encoders, each in one process, and what was seen of it; tests only read them."""

    def made(encoders):
        two = sites(tmp_path_factory.mktemp("whole"), **{"federation.encoders": encoders})
        return two, run(SiteGrid(two), two[0].config)

    return cache(made)


@pytest.mark.parametrize("encoders", ["local", "frozen", "shared"])
def test_a_site_served_by_two_processes_in_turn(encoders, whole, tmp_path):
    several = [sites(tmp_path, **{"federation.encoders": encoders}) for _ in range(2)]
    first, second = whole(encoders)[1], run(Processes(*several), several[0][0].config)
    assert_same(first, second)
    assert not torch.equal(first.models[0]["fusion.head.weight"], first.models[3]["fusion.head.weight"])


def test_a_fresh_process_for_every_message(whole, tmp_path):
    """As in a deployment (flower §3)."""
    one, first = whole("local")

    class Fresh(SiteGrid):
        def _work(self, message):
            return SiteGrid(sites(tmp_path, **{"federation.encoders": "local"}))._work(message)

    assert_same(first, run(Fresh(one), one[0].config))


def test_stage_two_begins_with_a_fresh_optimiser_and_keeps_the_encoders(tmp_path):
    (one, other) = sites(tmp_path)
    taken, kept = [], []
    write = type(one.store).save_optimizer

    def watch(store, digests, optimizer, *rest):
        if store is one.store:
            taken.append((rest[0], max(int(s["step"]) for s in optimizer["state"].values())))
            kept.append({n: t.clone() for n, t in one.engine.model.encoders.state_dict().items()})
        return write(store, digests, optimizer, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(one.store), "save_optimizer", watch)
        run(SiteGrid([one, other]), one.config)
    assert taken == [(1, 2), (1, 4), (2, 2), (2, 4)], "two steps a round; the count of steps restarts"
    assert any(not torch.equal(kept[0][n], kept[1][n]) for n in kept[0]), "encoders train in stage 1"
    assert all(torch.equal(kept[1][n], kept[3][n]) for n in kept[1]), "and rest in stage 2"


def test_routing_residuals_move_in_stage_two_only(whole):
    _, recorder = whole("local")
    residuals = [n for n in recorder.models[0] if "residual" in n]
    assert len(residuals) == 4
    for model, stage in zip(recorder.models, (1, 1, 2, 2), strict=True):
        assert all(model[n].any() == (stage == 2) for n in residuals)


def test_local_encoders_differ_between_sites_and_frozen_ones_do_not(whole):
    for encoders, same in (("local", False), ("frozen", True)):
        a, b = (s.engine.model.encoders["a"].weight_lPD for s in whole(encoders)[0])
        assert torch.equal(a, b) == same


def test_frozen_encoders_are_as_initialised(whole, tmp_path):
    fresh = sites(tmp_path, **{"federation.encoders": "frozen"})
    for trained, initial in zip(whole("frozen")[0], fresh, strict=True):
        state = initial.engine.model.encoders.state_dict()
        assert all(torch.equal(t, state[n]) for n, t in trained.engine.model.encoders.state_dict().items())


def test_tokens_are_not_remembered_beyond_the_encoders_that_made_them(tmp_path):
    """Examined, trained on, examined again: as a process finds it that was not there the first time."""
    config = settings()
    patients = cohort([1, 3, 7] * 5)
    kept = site("s", patients, config, tmp_path)
    counts = kept.engine.patients.counts
    member = Member(2, "s", counts, frozenset(counts))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    state = State(0, GlobalModel.build(config, patients.schema, counts), weights)
    examine = read_as(examine_task(config, patients.schema, state, member, routing=True, on_test=False), Examine)
    before = kept.examine(*examine)
    kept.train(*read_as(train_tasks(config, patients.schema, state, [member], [member])[2].record(), Task))
    after, elsewhere = kept.examine(*examine), site("s", patients, config, tmp_path).examine(*examine)
    assert after.validation == elsewhere.validation
    assert after.validation != before.validation, "the encoders did train"


def test_a_site_without_a_split_is_a_mistake_of_ours(tmp_path):
    with pytest.raises(ValueError, match="no split"):
        site("s", replace(cohort([1] * 8), split_N=None), settings(), tmp_path)
