"""A run of two hospitals in a results folder, as `remind simulate` lays it out."""

from pathlib import Path

from remind.config import Config
from remind.data.cohort.cohort import TEST, Cohort
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import CPU

MIXES = {"north": [1, 3, 7] * 8, "south": [3, 5, 7, 7] * 8}


def train(
    folder: Path, patients: dict[str, Cohort] | None = None, /, **changes
) -> tuple[Path, Recorder, dict[str, Cohort]]:
    """Results folder, what the coordinator was told, and the patients of each hospital."""
    config = Config.from_flat(BASE | {"federation.encoders": "local"} | changes)
    patients = patients or {name: cohort(mix, seed) for seed, (name, mix) in enumerate(MIXES.items())}
    results, recorder = RunFolder(folder / "run"), Recorder()
    sites = [
        Site(name, of, config, SiteStore(results.folder / "sites" / str(i)), CPU)
        for i, (name, of) in enumerate(patients.items())
    ]
    FedRemind(config, [results, recorder]).run(SiteGrid(sites))
    return results.folder, recorder, patients


def of_test(of: Cohort) -> Cohort:
    return of.take(of.split_N == TEST)
