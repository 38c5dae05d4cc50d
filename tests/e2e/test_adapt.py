"""From a simulation to a new hospital: export, init, adapt and predict, as typed."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.model_file import load_model
from tests.builders.kits import kit
from tests.e2e.loopback import set_value

pytestmark = pytest.mark.slow

SHORT = "train.warmup-rounds=2 train.routing-rounds=1 train.local-steps=5 synthetic.patients=300 threads=1"


def typed(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, check=False, timeout=1120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_hospital_that_was_not_there_predicts_with_an_exported_model(tmp_path):
    run, model, site = tmp_path / "run", tmp_path / "model", tmp_path / "site"
    typed("remind.cli", "simulate", "--num-clients", "2", "-c", f'{SHORT} results="{run}" device="cpu"')
    assert "remind-site adapt" in (Path(typed_export(run, model)) / "README.md").read_text()
    patients = generate(SyntheticConfig(patients=200), seed=5)
    write_cohort(patients, tmp_path / "cohort")
    typed("remind_client", "init", kit(tmp_path / "kit", "west"), "--folder", site, "--cohort", tmp_path / "cohort")
    set_value(site / "site.toml", "threads = 0", "threads = 1")
    said = typed("remind_client", "adapt", model, "--config", site, "--rounds", "2", "--quiet")
    assert "use it: remind-site predict --run adapted-model" in said
    out = tmp_path / "out.csv"
    typed("remind_client", "predict", "--config", site, "--cohort", tmp_path / "cohort", "--out", out)
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == len(patients)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["site"] for row in rows} == {"west"}
    trained = json.loads(load_model(model / "model.safetensors")[1]["counts"])
    assert max(int(row["train_n"]) for row in rows) > max(trained.values()), "its own patients count, too"
    events = [json.loads(line) for line in typed("remind_client", "audit", "show", "-c", site, "--json").splitlines()]
    assert [event["model"] for event in events if event["event"] == "adapted"] == ["model"]
    assert "valid" in typed("remind_client", "audit", "verify", "-c", site)


def typed_export(run: Path, out: Path) -> Path:
    typed("remind.cli", "export", run, "--out", out)
    return out
