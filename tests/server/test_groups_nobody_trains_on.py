"""Groups that occur only among validation or test patients, as in small real cohorts."""

import json

from remind_server.outputs.progress import Progress
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from remind_server.run_observers import run_observers
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.sites import site

GROUPS = [1] * 8 + [7] * 8 + [3, 5]
SPLIT = [0, 0, 0, 0, 1, 1, 2, 2] * 2 + [1, 2]  # group 3 only validates, group 5 only tests


def test_everything_that_follows_a_run_copes(tmp_path):
    config = settings()
    folder = tmp_path / "results" / "run"
    lines: list[str] = []
    watchers = run_observers(config, folder, lines.append)
    assert watchers, "the run store follows"
    sites = [site(name, cohort(GROUPS, seed, split_N=SPLIT), config, tmp_path) for seed, name in enumerate("xy")]
    observers = [RunFolder(folder), Progress(lines.append, folder), *watchers]
    result = FedRemind(config, observers).run(SiteGrid(sites))
    assert set(result.counts) == {1, 7}
    rows = json.loads((folder / "final.json").read_text())
    assert {row["mask"] for row in rows if row["site"] == "all" and row["mask"]} == {1, 5, 7}
    assert any("a+c" in line for line in lines)
