"""A run resumed from its last checkpoint equals an uninterrupted run bit by bit (invariant 7)."""

import json
import shutil
from dataclasses import fields
from itertools import product
from typing import Any, cast

import pytest
import torch

from remind.config import Scalar
from remind.errors import UserError
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.model_file import load_model, save_model
from remind_server.outputs.records import RunStart
from remind_server.outputs.run_folder import FINAL_JSON, GROUPS, MODEL, ROUNDS, SUMMARY, RunFolder
from remind_server.rounds.checkpoints import Checkpoint, Checkpoints
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.grids import SiteGrid
from tests.builders.method_runs import MIXES, config, together
from tests.builders.observers import Recorder
from tests.builders.sites import site

NOISY = {"model.dropout": 0.2, "model.hide": 0.2}


class Killed(BaseException):
    """The end of a process: nobody can clean up."""


class Dying(FedRemind):
    """A coordinator that is killed at a point of a round, counted from 1."""

    def __init__(self, *given, at, point, **named):
        super().__init__(*given, **named)
        self.at, self.point = at, point

    def _round(self, grid, state):
        if state.round + 1 == self.at:
            if self.point == "before":
                raise Killed
            if self.point == "between answers":
                grid.answers_left = 1
        after = super()._round(grid, state)
        if after.round == self.at and self.point == "unsaved":
            raise Killed
        if after.round == self.at and self.point == "examined":  # one site on test patients, the other not yet
            grid.answers_left = 1 if self.config.train.select == "last" else 1 + len(MIXES)
        return after


class Stopping(SiteGrid):
    """Sites of which only so many work on."""

    answers_left = 10**6

    def _work(self, message):
        if not self.answers_left:
            raise Killed
        self.answers_left -= 1
        return super()._work(message)


def sites(folder, settings, keeps_answers):
    found = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    for one in found:
        one.keeps_answers = keeps_answers
    return found


def whole(folder, settings):
    recorder = Recorder()
    kept = Checkpoints(folder / "run")
    observers = [RunFolder(folder / "run"), recorder]
    FedRemind(settings, observers, checkpoints=kept).run(SiteGrid(sites(folder / "sites", settings, False)))
    return recorder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of an uninterrupted run with these settings and what was seen of it; tests only read it."""
    known = {}

    def found(settings):
        key = settings.model_dump_json()
        if key not in known:
            folder = tmp_path_factory.mktemp("whole")
            known[key] = folder, whole(folder, settings)
        return known[key]

    return found


def resumed(settings):
    return settings.model_copy(update={"run": settings.run.model_copy(update={"resume": True})})


def killed(folder, settings, at, point, keeps_answers=False, between=lambda folder: None):
    kept, recorder = Checkpoints(folder / "run"), Recorder()
    grid = Stopping(sites(folder / "sites", settings, keeps_answers))
    observers = [RunFolder(folder / "run")]
    run = Dying(settings, observers, checkpoints=kept, at=at, point=point)
    for observer in observers:
        monkey = cast(Any, observer)
        monkey.failed = lambda reason: None
    with pytest.raises(Killed):
        run.run(grid)
    between(folder)
    again = resumed(settings)
    both = [RunFolder(folder / "run", resumes=True), recorder]
    other_process = sites(folder / "sites", settings, keeps_answers)
    FedRemind(again, both, checkpoints=kept).run(SiteGrid(other_process))
    return recorder


def read(folder, name):
    text = (folder / "run" / name).read_text()
    rows = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else [json.loads(text)]
    return [{k: v for k, v in row.items() if k != "seconds"} if isinstance(row, dict) else row for row in rows]


def assert_same(folder, other, one, two):
    n = len(two.models)
    for a, b in zip(one.models[len(one.models) - n :], two.models, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert [r.weights_after for r in one.rounds[len(one.rounds) - n :]] == [r.weights_after for r in two.rounds]
    assert all(torch.equal(t, two.result.tensors[name]) for name, t in one.result.tensors.items())
    for name in (ROUNDS, GROUPS, FINAL_JSON, SUMMARY):
        assert read(folder, name) == read(other, name), name
    (a, more), (b, more_) = load_model(folder / "run" / MODEL), load_model(other / "run" / MODEL)
    assert more == more_
    assert all(torch.equal(a[name], b[name]) for name in a)


ALL_POINTS = ("before", "between answers", "unsaved")
FEW: list[dict[str, Scalar]] = [
    {"rule": "fedadam", "dro.regret": True},
    {"rule": "ditto", "objective": "jtt"},
    {"federation.encoders": "shared", "federation.averaging": 0.9},
    {"train.select": "overall", "data.validation": 0.2},
    {"federation.updates": "int8", "federation.participation": 0.5, "federation.min-sites": 1},
]
STEEP: dict[str, Scalar] = {
    "train.lr": 0.02,
    "train.warmup-rounds": 5,
    "train.routing-rounds": 1,
    "federation.max-update": 100.0,
}
EVERY = [
    *({"rule": rule, "objective": objective} for _, objective, rule in together()),
    {"rule": "lg", "objective": "dfr"},
    {"federation.participation": 0.5, "federation.min-sites": 1},
    {"train.optimizer": "sgd", "train.lr": 0.05},
]


def named(choice):
    return ",".join(f"{k}={v}" for k, v in choice.items())


def moment(number):
    """The round and the point at which a run is killed: twelve numbers in a row have all of them."""
    return 1 + number % 4, ALL_POINTS[number // 4 % 3]


def equals_uninterrupted(folder, number, choice, uninterrupted):
    settings = config(**NOISY | choice)
    where, one = uninterrupted(settings)
    two = killed(folder, settings, *moment(number))
    assert_same(where, folder, one, two)


@pytest.mark.parametrize(("number", "choice"), [(2, FEW[0]), (5, FEW[1]), (6, FEW[2]), (11, FEW[3]), (5, FEW[4])])
def test_killed_and_resumed_equals_uninterrupted(number, choice, tmp_path, uninterrupted):
    equals_uninterrupted(tmp_path, number, choice, uninterrupted)


@pytest.mark.parametrize("choice", [FEW[1], FEW[3] | STEEP])
def test_killed_in_the_final_examination_and_resumed_equals_uninterrupted(choice, tmp_path, uninterrupted):
    settings = config(**NOISY | choice)
    where, one = uninterrupted(settings)
    two = killed(tmp_path, settings, settings.train.rounds, "examined")
    assert_same(where, tmp_path, one, two)
    assert not two.rounds
    assert one.result.selected is None or one.result.round < one.result.last, "or the test shows nothing of a choice"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "choice"), list(enumerate(EVERY)), ids=map(named, EVERY))
def test_every_method_killed_and_resumed_equals_uninterrupted(number, choice, tmp_path, uninterrupted):
    equals_uninterrupted(tmp_path, number, choice, uninterrupted)


def test_every_method_together_are_killed_at_any_point_of_any_round():
    assert {moment(number) for number in range(len(EVERY))} == set(product((1, 2, 3, 4), ALL_POINTS))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog, uninterrupted):
    settings = config(**NOISY)
    where, one = uninterrupted(settings)

    def damage(folder):
        path = folder / "run" / "checkpoints" / "round-00003.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    two = killed(tmp_path, settings, 4, "before", keeps_answers=True, between=damage)
    assert_same(where, tmp_path, one, two)
    assert len(two.rounds) == 2, "round 3 was done again, from the answers that the sites keep"
    assert "round-00003.safetensors: was changed since it was written" in caplog.text
    assert "resuming from the checkpoint before it, after round 2" in caplog.text


def test_checkpoints_are_kept_by_rule_and_a_second_process_is_refused(tmp_path):
    settings = config(**{"federation.checkpoints": 3})
    kept = Checkpoints(tmp_path / "run", 3)
    with kept.held(), pytest.raises(UserError, match="still going on"):
        FedRemind(settings, checkpoints=kept).run(SiteGrid(sites(tmp_path / "sites", settings, False)))
    FedRemind(settings, checkpoints=kept).run(SiteGrid(sites(tmp_path / "sites", settings, False)))
    assert sorted(p.stem for p in kept.folder.glob("*.safetensors")) == [f"round-0000{r}" for r in (2, 3, 4)]
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in kept.folder.glob("*.safetensors"))


def test_what_cannot_be_resumed_is_refused(tmp_path, uninterrupted):
    settings = config(**NOISY)
    kept = Checkpoints(tmp_path / "none")
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        FedRemind(resumed(settings), checkpoints=kept).run(SiteGrid([]))
    run = uninterrupted(settings)[0] / "run"
    with pytest.raises(UserError, match="has ended; there is nothing to resume"):
        RunFolder(run, resumes=True)
    other = resumed(config(**NOISY | {"train.lr": 0.01}))
    with pytest.raises(UserError, match=r"train.lr: 0.01; the run began with 0.0005"):
        FedRemind(other, checkpoints=Checkpoints(run)).run(SiteGrid([]))


def test_a_run_goes_on_only_with_the_very_model_that_it_began_with(tmp_path, uninterrupted):
    given = tmp_path / "given"
    shutil.copytree(uninterrupted(config(**NOISY))[0] / "run", given)
    settings = config(**NOISY | {"start.model": str(given), "start.shared": "tuned"})
    one, first = whole(tmp_path / "whole", settings), (given / MODEL).read_bytes()

    def replaced(folder):
        tensors, more = load_model(given / MODEL)
        save_model(given / MODEL, {name: 2 * tensor for name, tensor in tensors.items()}, more)
        kept = Checkpoints(folder / "run")
        with pytest.raises(UserError, match="given has changed since the run began; restore the former"):
            FedRemind(resumed(settings), checkpoints=kept).run(SiteGrid([]))
        (given / MODEL).write_bytes(first)

    two = killed(tmp_path / "killed", settings, 3, "before", between=replaced)
    assert_same(tmp_path / "whole", tmp_path / "killed", one, two)


def test_a_site_that_came_while_the_run_was_down_is_a_newcomer_and_one_that_is_gone_keeps_its_share(tmp_path):
    settings = config(**{"federation.min-sites": 1})
    folder, kept = tmp_path / "sites", Checkpoints(tmp_path / "run")
    one, other = sites(folder, settings, False)
    with pytest.raises(Killed):
        Dying(settings, checkpoints=kept, at=3, point="before").run(Stopping([one, other]))
    third = site("s3", cohort([2, 6] * 8, 9), settings, folder)
    recorder = Recorder()
    again = sites(folder, settings, False)
    FedRemind(resumed(settings), [recorder], checkpoints=kept).run(SiteGrid([again[1], third]))
    first = recorder.rounds[0]
    assert first.round == 3
    assert first.answered == ("s2", "s3")
    assert first.absent == {"s1": "not connected"}
    assert first.counts[1] == one.engine.patients.counts[1], "the patients of who is gone count on"
    assert first.weights_used[2] == pytest.approx(1 / 6)


def test_nothing_of_a_member_or_of_the_start_is_lost_on_the_way_through_a_checkpoint(tmp_path):
    settings = config(**NOISY)
    member = Member(7, "s1", {3: 3}, frozenset({1, 3}), {3: (2, 1)}, {3: 1}, minimum=5, named=True)
    assert not [
        f.name for f in fields(Member) if f.name not in ("node_id", "name") and getattr(member, f.name) == f.default
    ]
    assert json.loads(json.dumps(member.described())).keys() == {f.name for f in fields(Member)} - {"node_id"}
    again = Member.of(json.loads(json.dumps(member.described())), 7)
    assert all(getattr(again, f.name) == getattr(member, f.name) for f in fields(Member))
    start = RunStart(settings, cohort([1, 3]).schema, {"s1": {3: 3}}, {3: 3}, {"s2": "why"}, ("s1", "s2"), {"s1": True})
    weighing = methods_of(settings).weighing
    state = State(0, GlobalModel({"x": torch.ones(1)}), weighing.initial({"s1": {3: 3}}))
    kept = Checkpoints(tmp_path)
    kept.folder.mkdir()
    kept.write(Checkpoint(state, start, {}, 1), weighing)
    found = kept.newest(lambda config: weighing, print).start
    assert all(getattr(found, f.name) == getattr(start, f.name) for f in fields(RunStart) if f.name != "schema")
    assert found.schema.fingerprint == start.schema.fingerprint
