"""A hospital's whole machine: remind-site from `init` to SIGTERM, against a real SuperLink with TLS and node keys."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.groups import counts
from remind.prediction.bundle import of_part
from remind.prediction.predictor import Predictor
from remind_client.site_config import load_site_config
from remind_client.store.site_store import SiteStore
from remind_client.vault.stream import MAGIC
from remind_server.consortium.flower import Control, UnreachableError
from tests.builders.served import as_json
from tests.e2e.loopback import (
    ROOT,
    Consortium,
    Hospital,
    certificates,
    set_value,
    share_machine,
    site_command,
)
from tests.machine import free_port, until

pytestmark = pytest.mark.slow

MINIMUM = 30
SETTINGS = "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=2 federation.min-sites=1 "

SPY = {
    "pyproject.toml": """
        [project]
        name = "spy"
        version = "1.0.0"
        description = "reads what it should not"
        license = "Apache-2.0"
        dependencies = []
        [tool.flwr.app]
        publisher = "federated-remind"
        [tool.flwr.app.components]
        serverapp = "asking:server"
        clientapp = "taking:client"
        [tool.flwr.app.config]
        results = ""
    """,
    "asking.py": """
        import json
        import time
        from pathlib import Path

        from flwr.app import ConfigRecord, Message, RecordDict
        from flwr.serverapp import ServerApp

        server = ServerApp()

        @server.main()
        def main(grid, context):
            while not (nodes := list(grid.get_node_ids())):
                time.sleep(0.5)
            content = RecordDict({"message": ConfigRecord({"json": '{"kind": "enrol", "version": "0"}'})})
            asked = [Message(content, node, "query", ttl=240) for node in nodes]
            replies = list(grid.send_and_receive(asked, timeout=270))
            said = [r.error.reason if r.has_error() else dict(r.content["message"]) for r in replies]
            Path(context.run_config["results"]).write_text(json.dumps(said))
    """,
    "taking.py": """
        from pathlib import Path

        from flwr.clientapp import ClientApp

        Path({marker!r}).write_text(Path({patients!r}).read_text())
        client = ClientApp()

        @client.query()
        def query(message, context):
            raise RuntimeError("patients: " + Path({patients!r}).read_text())
    """,
}


@pytest.fixture(scope="module")
def consortium(flower, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coordinator")
    ca, certificate, key = certificates(folder / "tls")
    port = free_port()
    command = [
        *("flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--enable-supernode-auth"),
        *("--ssl-ca-certfile", str(ca), "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)),
        *("--database", str(folder / "state.db"), "--disable-runtime-dependency-installation"),
    ]
    flower.home.mkdir(exist_ok=True)
    (flower.home / "config.toml").write_text(
        f'[superlink]\ndefault = "prod"\n[superlink.prod]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{ca}"\n'
    )
    with (folder / "superlink.log").open("w") as out:
        superlink = subprocess.Popen(command, env=flower.env, cwd=folder, stdout=out, stderr=out)
    link = Control(f"127.0.0.1:{port}", ca.read_bytes())
    try:
        until(lambda: answers(link), "SuperLink", 180)
        yield Consortium(folder, flower, link, port, ca)
    finally:
        link.close()
        superlink.terminate()
        superlink.wait(60)


def answers(link: Control) -> bool:
    """Whether the SuperLink answers."""
    try:
        return link.runs() == []
    except UnreachableError:
        return False


@pytest.fixture(scope="module")
def hospital(consortium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital")
    write_cohort(generate(SyntheticConfig(patients=200), 0), folder / "cohort")
    site = folder / "site"
    made = site_command("init", consortium.kit("north"), "--folder", site, "--cohort", folder / "cohort")
    assert made.returncode == 0, made.stderr
    health = free_port()
    made = site_command("vault", "key", folder / "vault.key")
    assert made.returncode == 0, made.stderr
    config = site / "site.toml"
    set_value(config, "minimum_patients = 10", f"minimum_patients = {MINIMUM}")
    share_machine(site, health)
    set_value(config, '# key_file = "/run/secrets/vault.key"', f'key_file = "{folder / "vault.key"}"')
    consortium.enrol(site / "enrolment-request.json")
    running = Hospital(site, health)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop()


def processes_of(hospital: Hospital) -> list[int]:
    mark = f"REMIND_SITE={hospital.folder / 'site.toml'}".encode()
    return [int(p.name) for p in Path("/proc").glob("[0-9]*") if mark in environment(p).split(b"\0")]


def environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # gone meanwhile
        return b""


def test_the_private_key_is_its_owners_alone(hospital):
    key = hospital.folder / "site.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (hospital.folder / "enrolment-request.json").read_bytes()


def test_check_finds_everything_in_order(hospital):
    done = site_command("check", "-c", hospital.folder, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert {c["check"] for c in report["checks"]} >= {
        "cohort",
        "key",
        "certificate",
        "reachable",
        "clock",
        "vault",
        "disk",
    }
    assert not [c for c in report["checks"] if c["level"] == "failed"]


def test_two_rounds(hospital, consortium):
    hospital.start()
    hospital.wait_ready()
    out = consortium.folder / "out"
    run = consortium.submit(ROOT / "simulation", SETTINGS + f'results="{out}"')
    assert consortium.finish(run) == "finished:completed", hospital.log.read_text()[-5000:]
    rounds = [json.loads(line) for line in (out / "rounds.jsonl").open()]
    assert [r["answered"] for r in rounds] == [["north"]] * 2
    assert hospital.ask("status")[1]["worker"]["tasks_done"] == 4, "enrolment, two rounds, examination: all warm"


def test_small_groups_never_left(hospital, consortium):
    """Invariant 10 at the coordinator's end: nothing it wrote names a group below the minimum."""
    cohort = generate(SyntheticConfig(patients=200), 0)
    small = {k for k, n in counts(cohort.groups_N).items() if n < MINIMUM}
    assert small, "else this shows nothing"
    answers = [e for e in hospital.audit() if e["event"] == "answered"]
    assert [e["answer"] for e in answers] == ["Enrolment", "Report", "Report", "Examination"]
    for answer in answers:
        for part in answer["groups"].values():
            assert not {int(k) for k in part} & small
            assert all(n >= MINIMUM for n in part.values())
    names = {name for e in answers for t in e["tensors"] for name in [t["name"]]}
    assert names
    assert not [n for n in names if n.startswith("encoders.")]
    written = json.loads((consortium.folder / "out" / "config.json").read_text())
    assert set(written["sites"]) == {"north"}
    reported = [json.loads(line) for line in (consortium.folder / "out" / "rounds.jsonl").open()]
    assert not {int(k) for r in reported for k in r.get("weights", {})} & small


def test_what_the_site_keeps_is_encrypted(hospital):
    kept = [p for p in (hospital.folder / "state" / "runs").rglob("*") if p.is_file()]
    assert kept
    for path in kept:
        assert path.read_bytes()[: len(MAGIC)] == MAGIC, f"{path} is not encrypted"


def test_the_examined_model_answers_what_predict_says(hospital, tmp_path):
    """From enrolment to a prediction: the model lies in the vault, a real curl asks the service for it."""
    port, token = free_port(), tmp_path / "serve.token"
    words = ["-c", hospital.folder, "--port", port, "--token-file", token]
    log, command = tmp_path / "serve.log", [sys.executable, "-m", "remind_client", "serve"]
    with log.open("w") as out:
        service = subprocess.Popen([*command, *map(str, words)], stdout=out, stderr=out)
    ready = ["curl", "-sf", f"http://127.0.0.1:{port}/ready"]
    of = generate(SyntheticConfig(patients=200), 0).take(range(20))
    body = json.dumps({"patients": [as_json(of, i) for i in range(len(of))]})
    try:
        until(lambda: subprocess.run(ready, check=False, capture_output=True).returncode == 0, "the service", 120)
        ask = ["curl", "-s", "-H", f"Authorization: Bearer {token.read_text().strip()}", "--json", "@-"]
        ask += [f"http://127.0.0.1:{port}/predict"]
        done = subprocess.run(ask, input=body, capture_output=True, text=True, check=True)
    finally:
        service.terminate()
        assert service.wait(60) == 0, log.read_text()
    site = load_site_config(hospital.folder)
    [folder] = {path.parent for path in site.runs_folder.glob("run-*/model.pt")}
    part = SiteStore(folder, site.open_vault()).model()
    expected = Predictor(of_part(part, str(folder)), part.site, device="cpu").outputs(of)
    answered = json.loads(done.stdout)["predictions"]
    assert [list(own["probabilities"].values()) for own in answered] == expected.p_NC.tolist()
    entries = {e["event"]: e for e in hospital.audit()}
    assert (entries["predicted"]["patients"], entries["predicted"]["refused"]) == (20, 0)
    assert entries["serving"]["site"] == "north"


def ask_as_a_spy(consortium: Consortium, hospital: Hospital) -> tuple[dict, Path]:
    """Run an app whose module reads the cohort when imported; what the site said, and the mark the module leaves."""
    folder = hospital.folder.parent
    marker, out, app, patients = (
        folder / "taken",
        folder / "said.json",
        folder / "spy",
        folder / "cohort" / "cohort.toml",
    )
    app.mkdir(exist_ok=True)
    for name, text in SPY.items():
        filled = text.replace("{marker!r}", repr(str(marker))).replace("{patients!r}", repr(str(patients)))
        (app / name).write_text(textwrap.dedent(filled))
    run = consortium.submit(app, f'results="{out}"')
    assert consortium.finish(run, 120) == "finished:completed"
    [said] = json.loads(out.read_text())
    return json.loads(said["json"]), marker


def test_a_bundle_with_code_is_refused_before_anything_of_it_runs(hospital, consortium):
    refusal, marker = ask_as_a_spy(consortium, hospital)
    assert refusal["kind"] == "refusal"
    assert "only bundles of configuration" in refusal["reason"]
    assert not marker.exists(), "the bundle's module was imported"
    assert not list((hospital.folder / "state").rglob("taking.py")), "the bundle was unpacked"
    assert hospital.audit()[-1]["event"] == "refused"


def test_a_run_the_policy_does_not_allow_is_refused_with_its_reason(hospital, consortium):
    out = consortium.folder / "refused"
    settings = f'{SETTINGS} federation.encoders="shared" federation.deadline=30.0 results="{out}"'
    run = consortium.submit(ROOT / "simulation", settings)
    consortium.finish(run)
    refused = [e["reason"] for e in hospital.audit() if e["event"] == "refused" and e["run"] == run]
    assert refused
    assert all("encoder:" in reason and "does not let these tensors leave" in reason for reason in refused)
    assert "does not let these tensors leave" in consortium.flwr("log", run, "prod", "--show").stdout


def test_the_audit_log_is_whole(hospital):
    done = site_command("audit", "verify", "-c", hospital.folder)
    assert done.returncode == 0, done.stdout
    shown = site_command("audit", "show", "-c", hospital.folder).stdout
    assert "Report, round 1" in shown


def test_a_killed_worker_comes_back(hospital, consortium):
    before = hospital.ask("status")[1]["processes"]["worker"]["pid"]
    os.kill(before, 9)
    until(lambda: hospital.ask("status")[1]["processes"]["worker"]["restarts"] == 1, "restart")
    hospital.wait_ready()
    assert hospital.ask("status")[1]["processes"]["worker"]["pid"] != before


def test_sigterm_finishes_the_message_at_hand_and_leaves_nothing_behind(hospital, consortium):
    steps = "train.warmup-rounds=2 train.routing-rounds=1 train.local-steps=60 federation.deadline=120.0 "
    run = consortium.submit(ROOT / "simulation", f'{steps}results="{consortium.folder / "unfinished"}"')

    def training() -> bool:
        asked = [e for e in hospital.audit() if e.get("run") == run and e["request"] == "train"]
        return bool(asked) and hospital.ask("status")[1]["worker"]["busy_seconds"] is not None

    until(training, "a round under way", 240)
    assert len(processes_of(hospital)) >= 3
    assert hospital.stop(150) == 0
    until(lambda: not processes_of(hospital), "end of all processes", 10)
    *_, answered, stopped = hospital.audit()
    assert (answered["event"], answered["run"]) == ("answered", run), f"{answered}\n{hospital.log.read_text()[-3000:]}"
    assert answered["answer"] == "Report"
    assert (stopped["event"], stopped["reason"]) == ("stopped", "SIGTERM, no work was lost")
    consortium.flwr("stop", run, "prod")


def test_code_that_the_hospital_allowed_runs_alone_and_its_errors_stay_here(hospital, consortium):
    """The same spy with its hash on the list reads the cohort, which proves that the previous test can fail."""
    [asked] = [e for e in hospital.audit() if e["event"] == "asked" and e["app"] == "federated-remind/spy"]
    allowed = f'runs = ["*"]\ncode_bundles = ["{asked["bundle"]}"]'
    set_value(hospital.folder / "site.toml", 'runs = ["federated-remind/*"]', allowed)
    hospital.start()
    hospital.wait_ready()
    assert "worker" not in hospital.ask("status")[1]["processes"], "foreign code shares no process with anything"
    refusal, marker = ask_as_a_spy(consortium, hospital)
    assert marker.read_text().startswith("name")
    assert refusal["reason"] == "internal error (RuntimeError); the site's own log says more"
    assert hospital.stop() == 0
    changed = [e for e in hospital.audit() if e["event"] == "policy"]
    assert [bool(e["before"]) for e in changed] == [False, True]


def test_a_site_that_is_not_enrolled_says_so(hospital, consortium, tmp_path):
    made = site_command(
        "init", consortium.kit("stranger"), "--folder", tmp_path / "site", "--cohort", hospital.folder.parent / "cohort"
    )
    assert made.returncode == 0, made.stderr
    stranger = Hospital(tmp_path / "site", free_port())
    share_machine(stranger.folder, stranger.health)
    set_value(
        stranger.folder / "site.toml",
        f"health_port = {stranger.health}",
        f"health_port = {stranger.health}\nwarm = false",
    )
    stranger.start()
    until(lambda: "not enrolled" in stranger.ask("status")[1].get("refused", ""), "refusal")
    assert stranger.ask("ready")[0] == 503
    assert stranger.ask("live")[0] == 200
    assert stranger.stop() == 0
    assert not processes_of(stranger)


def test_a_changed_byte_in_the_log_is_seen(hospital):
    [file] = (hospital.folder / "state" / "audit").glob("audit-*.jsonl")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = site_command("audit", "verify", "-c", hospital.folder)
    assert done.returncode == 11
    assert "changed" in done.stdout
