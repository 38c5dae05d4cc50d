"""One small run over a cohort on disk, of several kinds of modality and two hospitals; many tests predict with it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import remind
from remind.config import Config, Scalar
from remind.data.cohort.cohort import TEST, Cohort, concatenate
from remind.data.sites.hospitals import virtual_hospitals
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind_server.rounds import waiting

SETTINGS: dict[str, Scalar] = {
    "synthetic.patients": 240,
    "synthetic.law": "independent",
    "synthetic.missing": "0.2, 0.4, 0.5, 0.5",
    "synthetic.kinds": "table, series, text, codes",
    "model.width": 8,
    "model.heads": 2,
    "model.experts": 4,
    "model.tokens": 4,
    "model.encoders.buckets": 64,
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "train.local-steps": 2,
}


@dataclass(frozen=True)
class Trained:
    """The run; its cohort's folder; its test patients by hospital, and as a folder of their own."""

    run: remind.Run
    cohort: Path
    test: dict[str, Cohort]
    test_folder: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("prediction")
    config = Config.from_flat(SETTINGS)
    patients = generate(config.synthetic, 0)
    site_N = np.where(np.arange(len(patients)) % 3 == 0, "north", "south")
    write_cohort(replace(patients, site_N=site_N, split_N=None), folder / "cohort")
    settle, waiting.SETTLE = waiting.SETTLE, 0.01
    run = remind.simulate(
        {k: v for k, v in SETTINGS.items() if not k.startswith("synthetic")} | {"results": str(folder / "run")},
        cohort=folder / "cohort",
    )
    waiting.SETTLE = settle
    hospitals = virtual_hospitals(run.config.data, run.config.synthetic, 0, 2)
    test = {site.name: site.cohort.take(site.cohort.split_N == TEST) for site in hospitals}
    named = [replace(of, site_N=np.full(len(of), name)) for name, of in test.items()]
    write_cohort(replace(concatenate(named), split_N=None), folder / "test")
    return Trained(run, folder / "cohort", test, folder / "test")
