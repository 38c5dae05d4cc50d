"""A small run for tests of the analysis."""

from remind.config import Config
from remind_server.outputs.run_folder import RunFolder
from remind_studies.analysis.hospitals import Hospitals
from tests.builders.configs import BASE

SITES = 3
SMALL = BASE | {
    "model.gate": "entropy",
    "model.router": "raw",  # of a random router some patients' gates are open and others' shut
    "model.threshold": 0.92,
    "synthetic.patients": 240,
    "train.warmup-rounds": 2,
    "train.routing-rounds": 2,
    "train.lr": 0.01,
    "train.routing-lr": 0.01,
    "device": "cpu",
}


def small_config(**changes):
    """Config of the run; ``data__test=0.3`` changes ``data.test``."""
    flat = {key.replace("__", "."): value for key, value in changes.items()}
    return Config.from_flat(SMALL | flat)


def train(folder, config=None, observers=()):
    """Train the run into a results folder; its hospitals, and its result."""
    hospitals = Hospitals(config or small_config(), SITES, folder / "sites")
    return hospitals, hospitals.train([RunFolder(folder), *observers])
