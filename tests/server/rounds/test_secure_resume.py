"""A run under secure aggregation that was killed continues with the keys it dealt, and never opens a slot twice."""

import json

import pytest
import torch

from remind.errors import UserError
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.secure.setup import FILE, kept
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.secure_resumes import Dying, Killed, resumed
from tests.builders.secure_runs import MIXES, SECURE, config
from tests.builders.sites import site


def sites(folder, settings):
    found = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    for one in found:
        one.keeps_answers = True
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What was seen of an uninterrupted run."""
    settings, recorder = config(**SECURE), Recorder()
    FedRemind(settings, [recorder]).run(SiteGrid(sites(tmp_path_factory.mktemp("whole"), settings)))
    return recorder


@pytest.mark.parametrize("point", ["before", "opened"])
def test_a_killed_run_goes_on_and_ends_as_an_uninterrupted_one(point, whole, tmp_path):
    settings = config(**SECURE)
    grid, folder = SiteGrid(sites(tmp_path / "killed", settings)), Checkpoints(tmp_path / "run")
    dying = Dying(settings, checkpoints=folder, point=point)
    with pytest.raises(Killed):
        dying.run(grid)
    before = kept(folder.folder)
    after = Recorder()
    FedRemind(resumed(settings), [after], checkpoints=folder).run(grid)
    assert [r.round for r in after.rounds] == [2]
    now = kept(folder.folder)
    assert now.book == before.book
    # The second round, begun again or for the first time, and the examination: each has keys that were never opened.
    assert now.next == before.next + 2
    assert before.round == (1 if point == "opened" else 0)
    for name, tensor in whole.models[-1].items():
        assert torch.equal(tensor, after.models[-1][name]), name


def test_what_the_coordinator_keeps_is_not_secret_and_damage_is_named(tmp_path):
    settings, folder = config(**SECURE), Checkpoints(tmp_path / "run")
    hospitals = sites(tmp_path / "sites", settings)
    FedRemind(settings, checkpoints=folder).run(SiteGrid(hospitals))
    text = (folder.folder / FILE).read_text()
    for one in hospitals:
        state = json.loads((one.store.folder / FILE).read_text())
        assert state["root"] not in text
        assert state["survivors"].keys() <= state["asked"].keys()
    (folder.folder / FILE).write_text(text[:100])
    with pytest.raises(UserError, match="damaged: no sum of this run can be read"):
        kept(folder.folder)


def test_without_the_kept_keys_a_run_does_not_go_on(tmp_path):
    settings, folder = config(**SECURE), Checkpoints(tmp_path / "run")
    grid = SiteGrid(sites(tmp_path / "sites", settings))
    with pytest.raises(Killed):
        Dying(settings, checkpoints=folder).run(grid)
    (folder.folder / FILE).unlink()
    with pytest.raises(UserError, match="the keys of this run were not kept"):
        FedRemind(resumed(settings), checkpoints=folder).run(grid)
