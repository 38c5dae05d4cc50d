"""A real curl gets from the service of a heart hospital the predictions of `remind predict`."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remind.prediction.predictor import load
from tests.builders.served import as_json
from tests.builders.site_files import write_site
from tests.e2e.loopback import ROOT, set_value
from tests.machine import free_port, until

pytestmark = pytest.mark.slow

COHORT = ROOT / "simulation" / "cohorts" / "uci_heart4.toml"
SHORT = ["train.warmup-rounds=2", "train.routing-rounds=1", "train.local-steps=5", "threads=1"]
HOSPITAL = "hungarian"


def command(*words: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, check=False, timeout=1120
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    if not (ROOT.parent / "shared" / "data" / "uci_heart4").is_dir():
        pytest.skip("needs the heart cohort")
    folder = tmp_path_factory.mktemp("heart") / "run"
    chosen = ["-c", " ".join([*SHORT, f'results="{folder}"', 'device="cpu"'])]
    done = command("remind.cli", "simulate", COHORT, *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    done = command("remind.cli", "export", run, "--out", out, "--site", HOSPITAL, "--hospital", HOSPITAL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the run's own patients equal") == 12, done.stdout
    return out


@pytest.fixture
def service(exported, tmp_path):
    """The service's address and token, over the exported folder."""
    site = write_site(tmp_path / "site")
    set_value(tmp_path / "site" / "site.toml", 'cohort = "cohort"', f'cohort = "{COHORT}"')
    port, token = free_port(), tmp_path / "serve.token"
    words = ["-m", "remind_client", "serve", "-c", tmp_path / "site", "--model", exported, "--port", port]
    with (tmp_path / "log").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *map(str, words), "--token-file", str(token)], stdout=out, stderr=out, env=os.environ
        )
    address = f"http://127.0.0.1:{port}"

    def up() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        return subprocess.run(["curl", "-sf", f"{address}/ready"], check=False, capture_output=True).returncode == 0

    until(up, "the service", 120)
    yield address, token.read_text().strip(), site
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, (tmp_path / "log").read_text()


def curl(address: str, token: str, body: object) -> dict:
    done = subprocess.run(
        ["curl", "-s", "-H", f"Authorization: Bearer {token}", "--json", "@-", f"{address}/predict"],
        input=json.dumps(body),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_what_predict_says(run, exported, service):
    from remind.data.cohort.read import read_cohort

    address, token, site = service
    whole = read_cohort(COHORT)
    of = whole.take([i for i, name in enumerate(whole.site_N) if name == HOSPITAL][:40])
    patients = [as_json(of, i) for i in range(len(of))]
    answer = curl(address, token, {"patients": [*patients, {"id": "wrong", "modalities": {"mri": {}}}]})
    expected = load(run, HOSPITAL).outputs(of)
    served = answer["predictions"][:-1]
    assert [list(own["probabilities"].values()) for own in served] == expected.p_NC.tolist()
    assert answer["predictions"][-1]["status"].startswith("mri: the model has no such modality")
    audited = [entry for entry in site.audit_log.entries() if entry["event"] == "predicted"]
    assert [(entry["patients"], entry["refused"]) for entry in audited] == [(41, 1)]
    assert of.patient_id_N[0] not in json.dumps(audited)


def test_the_command_predict_takes_the_exported_folder(exported, run, tmp_path):
    rows = []
    for folder in (run, exported):
        out = tmp_path / f"{folder.name}.csv"
        done = command("remind.cli", "predict", folder, "--cohort", COHORT, "--site", HOSPITAL, "--out", out)
        assert done.returncode == 0, done.stderr
        with out.open() as file:
            rows.append(
                [
                    {k: v for k, v in row.items() if k not in ("trusted", "reasons", "train_n")}
                    for row in csv.DictReader(file)
                ]
            )
    assert rows[0] == rows[1]
