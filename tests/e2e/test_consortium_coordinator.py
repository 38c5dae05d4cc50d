"""A served coordinator with its real programs: access of strangers (none) and of hospitals.

Hospitals are plain SuperNodes here, without a policy of their own.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import sign_message
from typer.testing import CliRunner

from remind.consortium.enrolment import make_request, verify_request
from remind.errors import UserError
from remind_server.consortium.authority import certificate_pem, issue_ca, issue_server, key_pem, load_key, new_key
from remind_server.consortium.certificates import load_certificates
from remind_server.consortium.command import consortium_command
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.proxy import nginx_program
from tests.machine import free_ports, until

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
COHORT = ROOT / "simulation" / "cohorts" / "uci_heart4.toml"
DATA = ROOT.parent / "shared" / "data" / "uci_heart4"


class Coordinator:
    """A consortium's folder, the commands on it, and `serve`."""

    def __init__(self, home):
        home.mkdir(exist_ok=True)
        self.home, self.where = home, home / "heart"
        self.port, superlink, health = free_ports(3)
        self.env = os.environ | {
            "HOME": str(home),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(home / "stranger"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "REMIND_STORE": "",
        }
        listen = ["--port", str(self.port), "--listen", f"127.0.0.1:{self.port}"]
        named = ["--name", "heart", "--host", "localhost", "--host", "127.0.0.1"]
        self("init", self.where, *named, *listen, "--unencrypted-ca-key")
        settings = self.where / "consortium.toml"
        text = settings.read_text().replace("= 18000", f"= {superlink}").replace("= 18080", f"= {health}")
        settings.write_text(text)
        self.folder = Folder(self.where)
        self.log = home / "serve.log"
        self.process = None

    def __call__(self, *arguments, code=0):
        """Type ``remind consortium …``; its standard output, or what it says of a mistake."""
        command = [sys.executable, "-m", "remind_server.consortium", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.env, cwd=self.home, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def ask(self, *arguments):
        """The same in this process: what is asked again and again shall not start a program each time."""
        done = CliRunner().invoke(consortium_command, [str(a) for a in arguments], env=self.env)
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.stdout

    def start(self):
        command = [sys.executable, "-m", "remind_server.consortium", "serve", str(self.where)]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, env=self.env, cwd=self.home, stdout=out, stderr=out)
        until(self.well, "consortium served")

    def well(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.folder.settings.local.health}/health") as answer:
                return answer.status == 200
        except OSError:
            return False

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def pids(self):
        return json.loads((self.folder.run / "pids.json").read_text())

    def sites(self):
        return {site["site"]: site for site in json.loads(self.ask("list", self.where, "--json"))["sites"]}

    def online(self, name):
        return self.sites()[name]["status"] == "online"

    def runs(self):
        return self.ask("runs", self.where).splitlines()

    def answer(self, path, port=None, trust=None, data=b"", headers=None):
        """Status and body of a POST from outside, or to `port`."""
        context = ssl.create_default_context(cafile=str(trust or self.folder.trust))
        headers = {"Content-Type": "application/protobuf"} | (headers or {})
        url = f"https://localhost:{port or self.port}{path}"
        request = urllib.request.Request(url, data=data, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def post(self, path, *where):
        """Status alone."""
        return self.answer(path, *where)[0]


class Hospital:
    """A hospital's own machine: its key, its kit, its SuperNode."""

    def __init__(self, coordinator, name, home):
        self.coordinator, self.name, self.home = coordinator, name, home
        home.mkdir()
        self.kit = home / name
        coordinator("kit", coordinator.where, name, "--out", home)
        self.private = ec.generate_private_key(ec.SECP384R1())
        openssh = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        self.key = home / "site.key"
        write_file(self.key, self.private.private_bytes(*openssh))
        self.request = home / "request.json"
        self.request.write_text(make_request(self.private, consortium="heart", site=name, location="46.9,7.4"))
        self.processes = []

    @property
    def fingerprint(self):
        return verify_request(self.request.read_text()).fingerprint

    def enrol(self, code=0):
        c = self.coordinator
        return c("enrol", c.where, self.request, "--fingerprint", self.fingerprint, code=code)

    def start(self, *, ca=None, own="", key=True):
        (port,) = free_ports(1)
        self.log = self.home / f"supernode-{len(self.processes)}.log"
        command = [
            *("flower-supernode", "--superlink", f"localhost:{self.coordinator.port}", "--port", str(port)),
            *("--root-certificates", str(ca or self.kit / "ca.crt")),
            *(("--auth-supernode-private-key", str(self.key)) if key else ()),
            *(("--node-config", own) if own else ()),
        ]
        env = self.coordinator.env | {"FLWR_HOME": str(self.home / "flwr")}
        with self.log.open("w") as out:
            process = subprocess.Popen(command, env=env, cwd=self.home, stdout=out, stderr=out)
        self.processes.append(process)
        return process

    def refused(self, **options):
        """Start it, and return what it says when it has given up."""
        code = self.start(**options).wait(60)
        assert code != 0
        return self.log.read_text()

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module", autouse=True)
def _nginx():
    try:
        nginx_program("nginx")
    except UserError:
        pytest.skip("needs nginx: apt-get install nginx-light")


@contextlib.contextmanager
def served(home):
    coordinator = Coordinator(home)
    try:
        coordinator.start()
        yield coordinator
    finally:
        coordinator.end()


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory):
    with served(tmp_path_factory.mktemp("coordinator")) as coordinator:
        yield coordinator


@pytest.fixture
def hospital(tmp_path):
    """Make hospitals; their processes end with the test."""
    hospitals = []

    def make(coordinator, name):
        hospitals.append(Hospital(coordinator, name, tmp_path / f"at-{name}"))
        return hospitals[-1]

    yield make
    for each in hospitals:
        each.end()


OUTSIDE = [
    *("/", "/health", "/docs", "/openapi.json", "/v1/fleet", "/v1/fleet/"),
    *("/v1/control/start-run", "/v1/control/register-node", "/v1/control/list-nodes", "/v1/control/stop-run"),
    *("/v1/runtime/acquire-task", "/v1/runtime/pull-task-input", "/v1/runtime/get-nodes"),
    *("/v1/fleet/../control/list-nodes", "/v1/fleet/%2e%2e/control/list-nodes", "/v1/fleet/..%2fcontrol/list-nodes"),
    *("/v1/fleet//../control/list-nodes", "/v1/control/../fleet/../control/list-nodes", "//v1/control/list-nodes"),
    *("/v1/fleet/activate-node/../../control/list-nodes", "/v1/fleet/activate-node;/", "/V1/FLEET/activate-node"),
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_from_outside_all_but_fleet_is_forbidden(coordinator, path):
    assert coordinator.post(path) == 403


def test_the_open_door_is_real(coordinator):
    """The paths above exist: on loopback, with no credential, the SuperLink answers some of them."""
    link = coordinator.folder.settings.local.superlink
    assert coordinator.post("/v1/control/list-nodes", link, coordinator.folder.loopback_ca) == 200
    assert coordinator.post("/v1/fleet/activate-node") == 401, "what passes must be signed by a hospital's key"


@pytest.mark.parametrize("where", ["outside", "loopback"])
def test_nobody_is_given_a_task(coordinator, where):
    inside = (coordinator.folder.settings.local.superlink, coordinator.folder.loopback_ca)
    seen = coordinator.post("/v1/runtime/acquire-task", *(inside if where == "loopback" else ()))
    assert seen == (401 if where == "loopback" else 403)


def flwr(coordinator, *arguments):
    """The stranger's own ``flwr``: it has the address and the CA certificate of a kit, as everybody may."""
    home = Path(coordinator.env["FLWR_HOME"])
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "heart"\n[superlink.heart]\naddress = "localhost:{coordinator.port}"\n'
        f'root-certificates = "{coordinator.folder.trust}"\n'
    )
    return subprocess.run(
        [BIN / "flwr", *arguments], env=coordinator.env, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_stranger_cannot_start_a_run(coordinator):
    before = coordinator.runs()
    done = flwr(coordinator, "run", str(ROOT / "simulation"), "heart")
    assert done.returncode != 0
    assert "403" in done.stdout + done.stderr
    assert coordinator.runs() == before


def test_a_stranger_cannot_register_a_hospital(coordinator, hospital):
    eve = hospital(coordinator, "eve")
    public = eve.home / "eve.pub"
    public.write_text(verify_request(eve.request.read_text()).public_key)
    done = flwr(coordinator, "supernode", "register", str(public), "heart", "--name", "eve")
    assert done.returncode != 0
    assert "403" in done.stdout + done.stderr
    listed = json.loads(coordinator("list", coordinator.where, "--json"))
    assert "eve" not in {site["site"] for site in listed["sites"]}
    assert listed["notes"] == []


def test_a_stranger_cannot_register_itself_on_the_path_that_is_open(coordinator, hospital):
    """Flower's fleet calls have a registration of their own; it is signed here as Flower wants it."""
    mallory = hospital(coordinator, "mallory")
    public = mallory.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    moment = datetime.now(UTC).isoformat()
    signed = {
        FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(public).decode(),
        FLEET_HTTP_SIGNATURE_HEADER: base64.b64encode(sign_message(mallory.private, moment.encode())).decode(),
        TIMESTAMP_HEADER: moment,
    }
    call = RegisterNodeFleetRequest(public_key=public).SerializeToString()
    status, said = coordinator.answer("/v1/fleet/register-node", data=call, headers=signed)
    assert status == 412, "the SuperLink refused, not the proxy, and not for the signature"
    assert b"must be registered via the CLI" in said
    assert json.loads(coordinator("list", coordinator.where, "--json"))["notes"] == []


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


def test_an_expired_certificate_is_refused_and_a_renewed_one_is_taken_up(tmp_path, hospital):
    with served(tmp_path / "coordinator") as coordinator:
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


def test_sigterm_ends_everything(tmp_path):
    with served(tmp_path / "coordinator") as coordinator:
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


def test_caddy_lets_through_no_more(tmp_path):
    """deploy/coordinator/Caddyfile, on free ports."""
    if shutil.which("caddy") is None:
        pytest.skip("needs caddy (Debian: caddy)")
    coordinator = Coordinator(tmp_path / "coordinator")
    settings = coordinator.where / "consortium.toml"
    settings.write_text(settings.read_text().replace('kind = "nginx"', 'kind = "none"'))
    local = Folder(coordinator.where).settings.local.superlink
    text = (ROOT / "deploy" / "coordinator" / "Caddyfile").read_text()
    caddyfile = tmp_path / "Caddyfile"
    caddyfile.write_text(text.replace(":8443", f":{coordinator.port}").replace(":18000", f":{local}"))
    env = coordinator.env | {"CONSORTIUM": str(coordinator.where), "XDG_DATA_HOME": str(tmp_path / "caddy")}
    command = ["caddy", "run", "--config", str(caddyfile), "--adapter", "caddyfile"]
    log = tmp_path / "caddy.log"
    try:
        coordinator.start()
        with log.open("w") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as caddy:
            try:
                until(lambda: socket.socket().connect_ex(("127.0.0.1", coordinator.port)) == 0, "caddy")
                assert {path: coordinator.post(path) for path in OUTSIDE} == dict.fromkeys(OUTSIDE, 403)
                assert coordinator.post("/v1/fleet/activate-node") == 401, "this one the SuperLink itself refuses"
            finally:
                caddy.terminate()
    finally:
        coordinator.end()


def cohort_of(site, folder):
    """One hospital's patients of the cohort of four, as files of its own."""
    folder.mkdir()
    patients = pd.read_csv(DATA / "patients.csv")
    own = patients[patients["site"] == site]
    own.to_csv(folder / "patients.csv", index=False)
    for file in DATA.glob("*.parquet"):
        table = pd.read_parquet(file)
        table[table["pid"].isin(own["pid"])].to_parquet(folder / file.name)
    lines = [line for line in COHORT.read_text().splitlines() if not line.startswith("root")]
    (folder / "cohort.toml").write_text("\n".join(lines) + "\n")
    return folder


def test_three_hospitals_train_two_rounds(tmp_path, hospital):
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data/uci_heart4, the cohort of four real hospitals")
    names = ["cleveland", "hungarian", "switzerland"]
    with served(tmp_path / "coordinator") as coordinator:
        sites = [hospital(coordinator, name) for name in names]
        for site in sites:
            site.enrol()
            cohort = cohort_of(site.name, site.home / "cohort")
            site.start(own=f'cohort="{cohort}" state-dir="{site.home / "state"}"')
        for site in sites:
            until(partial(coordinator.online, site.name), f"{site.name} online")
        out = tmp_path / "results"
        settings = "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=2 federation.min-sites=3 "
        command = [sys.executable, "-m", "remind_server.consortium", "run", str(coordinator.where), "--wait"]
        run = subprocess.Popen(
            [*command, "-c", settings + f'results="{out}"'], env=coordinator.env, stdout=subprocess.PIPE, text=True
        )
        until((out / "rounds.jsonl").exists, "first round", 400)
        os.kill(coordinator.pids()["superlink"], signal.SIGKILL)  # the run must not notice
        said, _ = run.communicate(timeout=400)
        assert run.returncode == 0, said
        assert "finished:completed" in said
        assert coordinator("bundle", coordinator.where).strip() in said
        rounds = [json.loads(line) for line in (out / "rounds.jsonl").open()]
        assert [r["answered"] for r in rounds] == [names, names], "sites by their registered names"
        for site in sites:
            assert list((site.home / "state").glob("run-*/state.pt")), "encoders rest at the site"
        assert "superlink ended (SIGKILL)" in coordinator.log.read_text()
