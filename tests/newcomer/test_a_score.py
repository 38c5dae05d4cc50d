"""A score is one file, of this package or of another one that is installed: it shows wherever scores do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remind.metrics import score as module
from remind.metrics.score import Score, register
from tests.builders.recipes import files_of
from tests.builders.trees import Tree

ROOT = Path(__file__).parents[2]
FILES = files_of("extend.md", "A score")


def described(name):
    return Score(name, name, name, "nothing", lambda _: 0.0)


def test_it_is_one_file():
    assert list(FILES) == ["remind/metrics/scores/kappa.py"]


@pytest.mark.parametrize("name", ["n", "Kappa", "kappa_low", "a__b", "group", ""])
def test_a_name_that_would_clash_is_refused(name):
    with pytest.raises(ValueError, match="is not a valid name for a score"):
        register(described(name))


def test_two_scores_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_REGISTERED", {})
    register(described("kappa"))
    with pytest.raises(ValueError, match="two scores are named 'kappa'"):
        register(described("kappa"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Environment in which a package brings the recipe's score."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "kappa_score.py").write_text(*FILES.values(), encoding="utf-8")
    about = folder / "kappa_score-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: kappa-score\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[remind.scores]\nkappa = kappa_score\n")
    paths = [str(ROOT / part) for part in ("", "server", "client", "studies")]
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *paths])}


def python(installed, *words):
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=installed, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_it_shows_wherever_scores_do(installed, tmp_path):
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    done = python(installed, str(tmp_path / "use.py"), str(tmp_path / "results" / "run"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    kappa = found["final"]
    assert -1 <= kappa <= 1
    assert found["api"]["value"] == pytest.approx(kappa)
    assert found["api"]["low"] <= kappa <= found["api"]["high"]
    assert found["chosen_by"] == "kappa"
    assert found["summary"] == pytest.approx(kappa)
    assert any(value == pytest.approx(kappa, rel=1e-5) for value in found["csv"])
    assert any(value == pytest.approx(kappa) for value in found["prometheus"])
    assert found["sinks"] == found["studies"] == found["columns"] is True
    assert found["page"] == found["matrix"] == found["terminal"] is found["legend"] is True
    assert len(found["curve"]) == 2
    assert None not in found["curve"]


@pytest.mark.slow
def test_the_contracts_of_scores_hold_for_it(installed):
    tests = ("tests/metrics/test_registry.py", "tests/dashboard/test_real_run.py", "tests/dashboard/test_store.py")
    done = python(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_it_is_one_file_of_this_package(tmp_path):
    tree = Tree.copy(tmp_path)
    tree.add(FILES)
    tree.passes("tests/metrics/test_registry.py")
    listed = tree.python("-c", "from remind.metrics.scores import SCORES; print(*SCORES)")
    assert listed.stdout.split()[-1] == "kappa", listed.stderr


USE = """
import csv, io, json, os, sys
from pathlib import Path

from fastapi.testclient import TestClient

from remind.config import Config
from remind_server.dashboard.access import Access
from remind_server.dashboard.app import dashboard_app
from remind_server.dashboard.downloads import COLUMNS
from remind_server.run_observers import run_observers
from remind_server.outputs.progress import Progress
from remind_server.outputs.run_folder import RunFolder
from remind_server.simulation.simulate import simulate
from remind_server.sinks.scalars import NUMBERS
from remind_server.store.open import open_store, store_url
from remind_studies.results.measures import COMPARABLE
from tests.builders.configs import BASE

os.environ.pop("REMIND_STORE", None)
folder, said = Path(sys.argv[1]), []
chosen = {"train.select": "overall", "train.select-score": "kappa"}
config = Config.from_flat(BASE | chosen | {"synthetic.patients": 160, "results": str(folder)})
simulate(config, 2, [RunFolder(folder), Progress(said.append), *run_observers(config, folder, said.append)])
engine = open_store(store_url(folder.parent))
with TestClient(dashboard_app(engine, Access(token="t")), headers={"authorization": "Bearer t"}) as client:
    get = lambda path: client.get(path)
    report = get("/api/runs/1").json()
    lines = list(csv.DictReader(io.StringIO(get("/runs/1/matrix.csv").text)))
    metrics = [line for line in get("/metrics").text.splitlines() if 'score="kappa"' in line and "group_score{" in line]
    final = {(r["site"], r["group"]): r for r in json.loads((folder / "final.json").read_text())}
    summary = json.loads((folder / "summary.json").read_text())
    page = get("/runs/1").text
    print(json.dumps({
        "final": final["all", "all"]["kappa"],
        "summary": summary["overall"]["kappa"],
        "chosen_by": summary["model"]["selected"]["score"],
        "api": report["overall"]["kappa"],
        "csv": [float(line["kappa"]) for line in lines if line["kappa"]],
        "prometheus": [float(line.rsplit(" ", 1)[1]) for line in metrics],
        "sinks": "kappa" in NUMBERS,
        "studies": "kappa" in COMPARABLE,
        "columns": "kappa_low" in COLUMNS,
        "page": "Cohen&#39;s κ" in page,
        "matrix": get("/api/runs/1/matrix?score=kappa").status_code == 200,
        "terminal": any("κ" in line for line in said),
        "legend": "κ: agreement of the likeliest class with the true one" in " ".join(" ".join(said).split()),
        "curve": get("/api/runs/1/curves?groups=").json()["curves"][0]["kappa"],
    }))
"""
