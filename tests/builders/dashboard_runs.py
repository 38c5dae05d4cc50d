"""A small simulated run with its results and its run store, as the dashboard shows it."""

from pathlib import Path

import pytest

from remind.config import Config
from remind_server.outputs.run_folder import RunFolder
from remind_server.run_observers import run_observers
from remind_server.simulation.simulate import simulate
from tests.builders.configs import BASE

SETTINGS = BASE | {
    "synthetic.patients": 240,
    "train.warmup-rounds": 2,
    "train.routing-rounds": 2,
    "model.gate": "entropy",
}
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")


def finished_run(results: Path) -> Path:
    """Run a simulation; the folder of the run, which lies beside its store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REMIND_STORE", raising=False)
        folder = results / "run"
        said: list[str] = []
        config = Config.from_flat(SETTINGS | {"results": str(folder)})
        simulate(config, 3, [RunFolder(folder), *run_observers(config, folder, said.append)])
        assert not said
    return folder
