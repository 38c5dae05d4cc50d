"""Setting up a consortium, both sides together: kits, keys, enrolment, proxy, sites, one of them late."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from remind.data.cohort.read import read_cohort
from remind.data.synthetic.write import write_cohort
from remind.prediction.bundle import read_bundle
from remind_client.site_config import load_site_config
from remind_client.store.site_store import SiteStore
from remind_server.consortium.proxy import nginx_program
from tests.builders.served import as_json
from tests.e2e.coordinator import ROOT, Coordinator
from tests.e2e.loopback import set_value, share_machine, site_command
from tests.machine import free_ports, until

pytestmark = pytest.mark.slow

COHORT = ROOT / "simulation" / "cohorts" / "uci_heart4.toml"
DATA = ROOT.parent / "shared" / "data" / "uci_heart4"
NAMES = ("cleveland", "hungarian", "switzerland")
SETTINGS = (
    'train.warmup-rounds=3 train.routing-rounds=3 train.local-steps=2 federation.min-sites=2 train.select="overall" '
)


class Hospital:
    """A hospital's commands, and its running site."""

    def __init__(self, name, kit, home):
        self.name, self.home = name, home / name
        cohort = read_cohort(COHORT)
        own = replace(cohort.take(cohort.site_N == name), site_N=None)
        write_cohort(own, home / f"cohort-{name}")
        done = site_command("init", kit, "--folder", self.home, "--cohort", home / f"cohort-{name}")
        assert done.returncode == 0, done.stderr
        self.fingerprint = re.search(r"SHA256:\S+", done.stdout + done.stderr)[0]
        (self.health,) = free_ports(1)
        share_machine(self.home, self.health)
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "remind_client", "run", "-c", str(self.home)]
        log = (self.home / "run.log").open("w")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(150)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def audit(self):
        done = site_command("audit", "show", "-c", self.home, "--json", "--last", "1000")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def afternoon(tmp_path):
    """The coordinator serving, and three hospitals that are enrolled and not yet running."""
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data/uci_heart4, the cohort of four real hospitals")
    try:
        nginx_program("nginx")
    except Exception as error:
        pytest.skip(f"needs nginx: {error}")
    coordinator, hospitals = Coordinator(tmp_path / "coordinator"), []
    try:
        coordinator.start()
        coordinator("kit", coordinator.where, *NAMES, "--out", tmp_path / "kits")
        for name in NAMES:
            hospital = Hospital(name, tmp_path / "kits" / name, tmp_path)
            request = hospital.home / "enrolment-request.json"
            coordinator("enrol", coordinator.where, request, "--fingerprint", hospital.fingerprint)
            hospitals.append(hospital)
        yield coordinator, hospitals
    finally:
        for hospital in hospitals:
            hospital.end()
        coordinator.end()


def the_chosen_round_is_at_each_hospital(out, hospitals):
    """train.select over a real network: the coordinator's model and what each hospital keeps are of one round."""
    bundle = read_bundle(out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["model"]["round"] == bundle.round
    assert 1 <= bundle.round <= 6
    for hospital in hospitals:
        config = load_site_config(hospital.home)
        [kept] = config.runs_folder.glob("run-*/model.pt")
        part = SiteStore(kept.parent, config.open_vault()).model()
        assert (part.round, part.routing) == (bundle.round, bundle.routing)


def a_hospital_asks_its_model(hospital, tmp_path):
    """What the hospital types after the run: `predict`, and a curl to `serve` that gets the same."""
    table, tests = tmp_path / "predictions.csv", tmp_path / "tests.csv"
    words = ["--cohort", tmp_path / f"cohort-{hospital.name}", "--out", table, "--next-test", tests]
    done = site_command("predict", "-c", hospital.home, *words)
    assert done.returncode == 0, done.stderr
    with table.open() as file:
        rows = list(csv.DictReader(file))
    of = read_cohort(tmp_path / f"cohort-{hospital.name}")
    assert len(rows) == len(of)
    assert {row["status"] for row in rows} == {"ok"}
    with tests.open() as file:
        statuses = [(row["status"], int(row["n"])) for row in csv.DictReader(file)]
    assert statuses, "hardly anybody there has every modality"
    assert all((n >= 30) if status == "ok" else status.startswith("not known: ") for status, n in statuses)

    (port,), token = free_ports(1), tmp_path / "serve.token"
    command = [sys.executable, "-m", "remind_client", "serve", "-c", hospital.home, "--port", port]
    with (tmp_path / "serve.log").open("w") as log:
        service = subprocess.Popen([*map(str, command), "--token-file", str(token)], stdout=log, stderr=log)
    ready = ["curl", "-sf", f"http://127.0.0.1:{port}/ready"]
    body = json.dumps({"patients": [as_json(of, i) for i in range(len(of))]})
    try:
        until(lambda: subprocess.run(ready, check=False, capture_output=True).returncode == 0, "the service", 120)
        ask = ["curl", "-s", "-H", f"Authorization: Bearer {token.read_text().strip()}", "--json", "@-"]
        asked = subprocess.run(
            [*ask, f"http://127.0.0.1:{port}/predict"], input=body, capture_output=True, text=True, check=True
        )
    finally:
        service.terminate()
        assert service.wait(60) == 0, (tmp_path / "serve.log").read_text()
    answer = json.loads(asked.stdout)
    assert answer["model"]["site"] == hospital.name
    for row, own in zip(rows, answer["predictions"], strict=True):
        assert own["id"] == row["patient_id"]
        assert own["decision"] == row["decision"]
        for name, p in own["probabilities"].items():
            assert p == float(row[f"p_{name}"]), "to the last digit"


def the_card_names_who_agreed(out, tmp_path, env):
    """The coordinator's export: the one hospital whose policy agreed is named, and asking for another is refused."""
    command = [sys.executable, "-m", "remind.cli", "export", str(out), "--out", str(tmp_path / "exported")]
    done = subprocess.run(
        [*command, "--hospital", NAMES[0]], env=env, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 1
    assert f"hospital {NAMES[0]}: its policy did not allow" in done.stderr
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "exported" / "README.md").read_text()
    assert f"among them {NAMES[1]}" in card
    assert not any(name in card for name in (NAMES[0], NAMES[2]))


def test_hospitals_train_together_one_comes_late_and_one_may_not(afternoon, tmp_path):
    coordinator, hospitals = afternoon
    *early, late = hospitals
    set_value(early[1].home / "site.toml", "# share_name = true", "share_name = true")
    checked = site_command("check", "-c", early[0].home, "--json")
    assert checked.returncode == 0, checked.stdout
    for hospital in early:
        hospital.start()
    for hospital in early:
        until(partial(coordinator.online, hospital.name), f"{hospital.name} online", 120)
    out = tmp_path / "results"
    command = [sys.executable, "-m", "remind_server.consortium", "run", str(coordinator.where), "--wait"]
    run = subprocess.Popen(
        [*command, "-c", SETTINGS + f'results="{out}"'], env=coordinator.env, stdout=subprocess.PIPE, text=True
    )
    until((out / "rounds.jsonl").exists, "first round", 400)
    late.start()
    said, _ = run.communicate(timeout=2000)
    assert run.returncode == 0, said
    rounds = [json.loads(line)["answered"] for line in (out / "rounds.jsonl").open()]
    assert rounds[0] == [hospital.name for hospital in early]
    assert rounds[-1] == list(NAMES), "the late one takes part"
    for hospital in hospitals:
        events = hospital.audit()
        answered = [event for event in events if event["event"] == "answered"]
        sent = {tensor["name"] for event in answered for tensor in event["tensors"]}
        assert sent, "tensors did cross the wire"
        assert not any(name.startswith("encoders.") for name in sent), "and no encoder's among them"
        assert site_command("audit", "verify", "-c", hospital.home).returncode == 0

    the_chosen_round_is_at_each_hospital(out, hospitals)
    a_hospital_asks_its_model(early[1], tmp_path)
    the_card_names_who_agreed(out, tmp_path, coordinator.env)

    # One hospital's policy refuses: the others continue, and the coordinator learns the reason.
    early[0].end()
    set_value(early[0].home / "site.toml", 'runs = ["federated-remind/*"]', 'runs = ["somebody/else"]')
    early[0].start()
    until(lambda: coordinator.online(early[0].name), "back online", 180)
    again = tmp_path / "again"
    settings = (
        f'train.warmup-rounds=1 train.routing-rounds=0 train.local-steps=2 federation.min-sites=2 results="{again}"'
    )
    done = subprocess.run(
        [*command, "-c", settings], env=coordinator.env, capture_output=True, text=True, timeout=1600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (only,) = [json.loads(line)["answered"] for line in (again / "rounds.jsonl").open()]
    assert early[0].name not in only
    assert np.array_equal(sorted(only), sorted(NAMES[1:]))
    assert any(event["event"] == "refused" for event in early[0].audit())
