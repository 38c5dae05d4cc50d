"""All kinds of modalities in one federation; each hospital has a different set."""

from pathlib import Path

import pytest

from remind.config import Config, Scalar
from remind.data.cohort.read import read_cohort
from remind.data.sites.hospitals import virtual_hospitals, with_split
from remind.data.sites.sites import split_sites
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind_server.rounds.strategy import FedRemind
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

pytestmark = pytest.mark.slow

KINDS = ("table", "series", "image", "volume", "video", "text", "codes")
RULES = "1: no M4, M5; 2: only M1, M2, M6, M7; 3: no M1, M6; 4: only M3, M4, M5, M7"
HAS = {
    "site-1": {"M1", "M2", "M3", "M6", "M7"},
    "site-2": {"M1", "M2", "M6", "M7"},
    "site-3": {"M2", "M3", "M4", "M5", "M7"},
    "site-4": {"M3", "M4", "M5", "M7"},
}
SETTINGS: dict[str, Scalar] = {
    "synthetic.law": "independent",
    "synthetic.missing": "0.3, 0.4, 0.4, 0.5, 0.5, 0.4, 0.3",
    "synthetic.kinds": ", ".join(KINDS),
    "synthetic.size": 32,
    "synthetic.patients": 100,
    "data.rules": RULES,
    "model.width": 16,
    "model.experts": 4,
    "model.heads": 2,
    "model.tokens": 4,
    "model.encoders.image-weights": "random",
    "model.encoders.volume": "resnet10",
    "model.encoders.volume-weights": "random",
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "train.local-steps": 1,
    "train.batch": 8,
}


@pytest.mark.parametrize("encoders", ["local", "shared"])
def test_seven_kinds_at_hospitals_with_different_sets(encoders, tmp_path):
    config = Config.from_flat(SETTINGS | {"federation.encoders": encoders})
    hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, 4)
    assert {m.kind for m in hospitals[0].cohort.schema.modalities} == set(KINDS)
    sites = [site(h.name, h.cohort, config, tmp_path) for h in hospitals]
    assert {s.name: set(s.engine.model.encoders) for s in sites} == HAS
    recorder = Recorder()
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    assert recorder.result.absent == {}
    assert all(r.answered == tuple(HAS) for r in recorder.rounds)
    assert set(recorder.result.test) == set(HAS)
    for s in sites:
        assert set(s.store.digests()) == HAS[s.name], "each keeps the encoders of what it has"
        kept = {p.name.split("-")[0] for p in (tmp_path / s.name / "tokens").iterdir()}
        assert kept == HAS[s.name], "and their tokens, computed once"
    travelled = {n.split(".")[1] for n in recorder.models[-1] if n.startswith("encoders.")}
    assert travelled == ({f"M{i}" for i in range(1, 8)} if encoders == "shared" else set())


@pytest.mark.slow
def test_from_disk_and_by_worker_processes_it_is_the_same(tmp_path):
    """Pixels from files, read ahead by two processes, or in memory: the same model, bit for bit."""
    base: dict[str, Scalar] = SETTINGS | {"synthetic.patients": 60, "data.rules": ""}
    config = Config.from_flat(base)
    cohort = generate(config.synthetic, config.seed)
    write_cohort(cohort, tmp_path / "cohort")
    models = []
    for name, source, workers in (
        ("memory", cohort, 0),
        ("files", read_cohort(tmp_path / "cohort"), 0),
        ("workers", read_cohort(tmp_path / "cohort"), 2),
    ):
        chosen = Config.from_flat(base | {"workers": workers})
        recorder, folder = Recorder(), Path(tmp_path / name)
        (whole,) = split_sites(source, 1, chosen.data, 0)
        one = with_split(whole, chosen.data, 0)
        FedRemind(chosen, [recorder]).run(SiteGrid([site("s", one.cohort, chosen, folder)]))
        models.append(recorder.models[-1])
    for other in models[1:]:
        assert all((other[n] == t).all() for n, t in models[0].items())
