"""Hospitals of a served coordinator: enrolment, restarts, and a run."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from remind.config import SyntheticConfig
from remind.consortium.enrolment import make_request
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind_server.consortium.authority import certificate_pem, issue_ca, issue_server, key_pem, load_key, new_key
from remind_server.consortium.certificates import load_certificates
from remind_server.consortium.folder import write_file
from tests.machine import until

pytestmark = pytest.mark.slow


CUT = 30.0  # seconds


def test_three_hospitals_train_three_rounds(coordinator, hospital, tmp_path):
    """Encoders stay at the sites. The run survives the death of SuperLink and proxy, and a cut connection."""
    names = ["cleveland", "hungarian", "switzerland"]
    sites = [hospital(coordinator, name) for name in names]
    for seed, site in enumerate(sites):
        site.enrol()
        write_cohort(generate(SyntheticConfig(patients=150), seed), site.home / "cohort")
        site.start(own=f'cohort="{site.home / "cohort"}" state-dir="{site.home / "state"}"')
    for site in sites:
        until(partial(coordinator.online, site.name), f"{site.name} online")
    out = tmp_path / "results"
    settings = "train.warmup-rounds=1 train.routing-rounds=2 train.local-steps=2 federation.min-sites=3 "
    command = [sys.executable, "-m", "remind_server.consortium", "run", str(coordinator.where), "--wait"]
    run = subprocess.Popen(
        [*command, "-c", settings + f'results="{out}"'], env=coordinator.env, stdout=subprocess.PIPE, text=True
    )
    until((out / "rounds.jsonl").exists, "first round", 400)
    os.kill(coordinator.pids()["superlink"], signal.SIGKILL)  # the run must not notice
    until(lambda: len((out / "rounds.jsonl").read_text().splitlines()) > 1, "second round", 400)
    stand_still(coordinator.pids()["proxy"], CUT)
    os.kill(coordinator.pids()["proxy"], signal.SIGKILL)
    said, _ = run.communicate(timeout=1600)
    assert run.returncode == 0, said
    assert "finished:completed" in said
    assert coordinator("bundle", coordinator.where).strip() in said
    rounds = [json.loads(line) for line in (out / "rounds.jsonl").open()]
    assert [r["answered"] for r in rounds] == [names] * 3, "sites by their registered names"
    assert set(json.loads((out / "config.json").read_text())["sites"]) == set(names)
    for site in sites:
        assert list((site.home / "state").glob("run-*/state.pt")), "encoders rest at the site"
    assert not list(out.glob("sites")), "and nowhere else"
    for part in ("superlink", "proxy"):
        assert f"{part} ended (SIGKILL)" in coordinator.log.read_text()


def stand_still(pid: int, seconds: float) -> None:
    """Stop a process and its children for some seconds, as if the network were cut: nothing passes."""
    stopped = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for each in stopped:
        os.kill(each, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        for each in stopped:
            os.kill(each, signal.SIGCONT)


def test_an_unknown_key_is_refused(coordinator, hospital):
    said = hospital(coordinator, "unknown").refused()
    assert "Failed to activate SuperNode" in said
    assert "305" in said


def test_no_key_is_refused(coordinator, hospital):
    assert "305" in hospital(coordinator, "keyless").refused(key=False)


def test_a_hospital_refuses_a_coordinator_of_another_ca(coordinator, hospital):
    alone = hospital(coordinator, "alone")
    alone.enrol()
    other = alone.home / "other.crt"
    other.write_bytes(certificate_pem(issue_ca(new_key(), "heart", 10)))
    assert "CERTIFICATE_VERIFY_FAILED" in alone.refused(ca=other)


def test_an_enrolment_works_once(coordinator, hospital):
    once = hospital(coordinator, "once")
    once.enrol()
    assert "this request was used already, for site 'once'" in once.enrol(code=1)
    once.request.write_text(make_request(once.private, consortium="heart", site="twice"))
    assert "this key is in use by site 'once'" in once.enrol(code=1)
    once.request.write_text(make_request(once.private, consortium="lung", site="once"))
    assert "the request is for 'lung'" in once.enrol(code=1)


def test_a_revoked_hospital_is_out_and_the_others_stay(coordinator, hospital):
    gone, stays = hospital(coordinator, "gone"), hospital(coordinator, "stays")
    for each in (gone, stays):
        each.enrol()
        each.start()
    for each in (gone, stays):
        until(partial(coordinator.online, each.name), f"{each.name} online")
    coordinator("revoke", coordinator.where, "gone")
    gone.processes[0].wait(90)
    assert coordinator.sites()["gone"]["status"] == "revoked"
    assert "305" in gone.refused()
    gone.request.write_text(make_request(gone.private, consortium="heart", site="gone"))
    assert "cannot come back" in gone.enrol(code=1)
    assert stays.processes[0].poll() is None
    assert coordinator.online("stays")
    returns = hospital(coordinator, "returns")
    returns.request.write_text(make_request(returns.private, consortium="heart", site="gone"))
    returns.enrol()
    returns.start()
    until(lambda: coordinator.online("gone"), "the hospital is back with a new key")


@pytest.mark.parametrize("part", ["superlink", "superexec", "proxy"])
def test_what_dies_is_started_again(coordinator, part):
    before = coordinator.pids()[part]
    os.kill(before, signal.SIGKILL)
    until(lambda: coordinator.pids()[part] != before, f"{part} started again")
    until(coordinator.well, "consortium well again")
    assert f"{part} ended (SIGKILL)" in coordinator.log.read_text()


def test_an_expired_certificate_is_refused_and_a_renewed_one_is_taken_up(coordinator, hospital):
    bern = hospital(coordinator, "bern")
    bern.enrol()
    folder = coordinator.folder
    key, past = new_key(), datetime.now(UTC) - timedelta(days=400)
    signing = load_key(folder.ca_key.read_bytes(), None, "key")
    ca = load_certificates(folder.ca_certificate)[0]
    expired = issue_server(key.public_key(), ["localhost"], signing, ca, 365, past)
    write_file(folder.server, key_pem(key, None) + certificate_pem(expired))
    until(lambda: not coordinator.well(), "the proxy shows the expired certificate")
    assert "certificate has expired" in bern.refused()
    assert "the server certificate expired" in coordinator("check", coordinator.where, code=10)
    coordinator("renew", coordinator.where)
    until(coordinator.well, "the proxy shows the renewed certificate")
    bern.start()
    until(lambda: coordinator.online("bern"), "bern online")


def test_sigterm_ends_everything(coordinator):
    pids = coordinator.pids().values()
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    coordinator.process.send_signal(signal.SIGTERM)
    assert coordinator.process.wait(60) == 0
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(coordinator.where) in _text(p)]
    assert left == []
    coordinator.start()  # and its ports are free again


def _text(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
