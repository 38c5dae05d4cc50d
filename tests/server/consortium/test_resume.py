"""Resuming a consortium's run starts a new run in Flower, and continues the same run for everybody else."""

import pytest

from remind.config import Config
from remind.errors import UserError
from remind.paths import run_name
from remind_server.consortium.flower import Control, Run
from remind_server.consortium.folder import Folder
from remind_server.consortium.record_keeper import RecordKeeper
from remind_server.consortium.run_record import read_record, record_path, records_of
from remind_server.consortium.runs import resumed_settings
from remind_server.outputs.records import Observer
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.sites import site

MIXES = {"s1": [1, 1, 3] * 5, "s2": [3, 5, 7] * 5}


class Link(Control):
    """A SuperLink on which runs have these statuses."""

    def __init__(self, **statuses):
        self.statuses = statuses

    def run(self, run_id):
        return Run(run_id, self.statuses[f"run{run_id}"], "", "2026-01-01")


class Stopped(Observer):
    """Ends a run in its third round."""

    def round_started(self, start):
        if start.round == 3:
            raise KeyboardInterrupt


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "heart").mkdir()
    return Folder(tmp_path / "heart")


def serve(folder, number, config, *more):
    """What a ServerApp does with a run that Flower calls by this number."""
    results, name = folder.root / "results", run_name(config, number)
    sites = [site(s, cohort(mix, seed), config, folder.root / name) for seed, (s, mix) in enumerate(MIXES.items())]
    keeper = RecordKeeper(record_path(folder, number), number, results, name)
    observers = [RunFolder(results, config.run.resume), keeper, *more]
    FedRemind(config, observers, checkpoints=Checkpoints(results)).run(SiteGrid(sites))


def test_it_goes_on_under_its_first_number_and_with_its_own_settings(folder):
    began = settings({"train.warmup-rounds": 2, "train.routing-rounds": 2, "seed": 3})
    with pytest.raises(KeyboardInterrupt):
        serve(folder, 5, began, Stopped())
    values = resumed_settings(Link(run5="finished:failed"), folder, 5)
    config = Config.from_flat(values)
    assert (config.run.id, config.run.resume, config.seed) == ("5", True, 3)
    assert values["results"] == str(folder.root / "results")
    assert config.begun.model_copy(update={"run": began.run, "results": ""}) == began
    serve(folder, 6, config)
    first, second = read_record(folder, 5), read_record(folder, 6)
    assert (first.status, second.status) == ("failed", "completed")
    assert (second.round, second.rounds, second.began) == (4, 4, first.began)
    assert {r.run for r in records_of(folder, "5")} == {"5", "6"}
    assert {p.name for p in folder.root.iterdir()} >= {"5"}, "the sites' folders keep the name"
    assert not (folder.root / "6").exists()
    with pytest.raises(UserError, match="has ended; there is nothing to resume"):
        resumed_settings(Link(run5="finished:failed", run6="finished:completed"), folder, 6)


def test_a_run_that_is_still_going_on_under_any_number_is_refused(folder):
    with pytest.raises(KeyboardInterrupt):
        serve(folder, 5, settings({"train.warmup-rounds": 2, "train.routing-rounds": 2}), Stopped())
    with pytest.raises(UserError, match="run 5 is still running as run 5; `remind consortium stop 5` ends it"):
        resumed_settings(Link(run5="running"), folder, 5)
    with pytest.raises(UserError, match="run 9 has no record"):
        resumed_settings(Link(), folder, 9)
