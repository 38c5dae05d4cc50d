"""Short runs of two real cohorts, beside their store: heart thrice (hospitals alone, together, faster), nhanes once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remind.config import Config, Scalar
from remind_server.outputs.progress import Progress
from remind_server.outputs.run_folder import RunFolder
from remind_server.outputs.screen import Screen
from remind_server.run_observers import run_observers
from remind_server.simulation.simulate import simulate
from tests.builders.configs import BASE

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
LIGHT: dict[str, Scalar] = {"train.local-steps": 4, "train.batch": 64, "train.lr": 0.01, "federation.deadline": 600.0}
ALONE, HEART, FAST, NHANES = 1, 2, 3, 4  # numbers of the runs
SITES = {"uci_heart4": 4, "nhanes_2017_2020": 8}
GROUPS = {HEART: 8, NHANES: 93}
RUNS: dict[str, tuple[str, dict[str, Scalar]]] = {
    "heart-alone": ("uci_heart4", {"method.rule": "local"}),
    "heart": ("uci_heart4", {"train.select": "overall", "train.routing-rounds": 2}),
    "heart-fast": ("uci_heart4", {"train.lr": 0.03, "train.routing-rounds": 2}),
    "nhanes": ("nhanes_2017_2020", {}),
}


def need_data() -> None:
    """Skip, with the reason, where a cohort is not there."""
    for cohort in SITES:
        if not (DATA / cohort).is_dir():
            pytest.skip(f"needs ../shared/data/{cohort}, a real cohort")


@contextmanager
def real_runs(results: Path) -> Iterator[list[str]]:
    """The runs in `results`; gives what the terminal showed of the last one, nhanes."""
    need_data()
    shown: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REMIND_STORE", raising=False)
        for name, (cohort, changes) in RUNS.items():
            shown.clear()
            folder = results / name
            where: dict[str, Scalar] = {
                "data.cohort": str(ROOT / "simulation" / "cohorts" / f"{cohort}.toml"),
                "results": str(folder),
            }
            config = Config.from_flat(BASE | LIGHT | where | changes)
            progress = Progress(shown.append, folder, Screen(width=100, lines=30))
            observers = [RunFolder(folder), progress, *run_observers(config, folder, shown.append)]
            simulate(config, SITES[cohort], observers)
        yield shown
