"""A served coordinator with its real programs: strangers have no access."""

import base64
import json
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import sign_message

from remind.consortium.enrolment import verify_request
from remind_server.consortium.folder import Folder
from tests.e2e.coordinator import BIN, ROOT, Coordinator
from tests.machine import until

pytestmark = pytest.mark.slow
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
    """The stranger's own ``flwr``, with the address and CA certificate of a kit, which are public."""
    home = Path(coordinator.env["FLWR_HOME"])
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "heart"\n[superlink.heart]\naddress = "localhost:{coordinator.port}"\n'
        f'root-certificates = "{coordinator.folder.trust}"\n'
    )
    return subprocess.run(
        [BIN / "flwr", *arguments], env=coordinator.env, capture_output=True, text=True, timeout=1200, check=False
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
