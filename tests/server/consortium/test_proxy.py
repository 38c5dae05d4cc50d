"""The proxy's limits before a signature is checked.

A real nginx and a real Caddy, behind which nobody stands: what passes is answered 502.
"""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from remind.errors import UserError
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.make import make
from remind_server.consortium.proxy import nginx_conf, nginx_program, write_proxy
from remind_server.consortium.settings import Consortium, settings_toml
from tests.machine import free_ports

KEYS = {"flwr-public-key": "A" * 290, "flwr-signature": "B" * 140, "flwr-timestamp": "2026-11-29T11:34:00.1+00:00"}
PIECE, CALL = "/v1/fleet/push-object", "/v1/fleet/push-messages"
PASSED = 502


def free(root):
    """A consortium on free ports."""
    port, superlink, health = free_ports(3)
    folder = make(root / "heart", "heart", ["localhost"], port, f"127.0.0.1:{port}", None, 3650, 365)
    values = folder.settings.model_dump()
    values["local"] |= {"superlink": superlink, "health": health}
    write_file(folder.settings_file, settings_toml(Consortium.model_validate(values)).encode())
    folder = Folder(folder.root)
    folder.run.mkdir()
    return folder


@contextmanager
def started(command, port, **env):
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | env) as process:
        try:
            while process.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Port of an nginx."""
    try:
        nginx_program("nginx")
    except UserError:
        pytest.skip("needs nginx (Debian: nginx-light)")
    folder = free(tmp_path_factory.mktemp("consortium"))
    with started(write_proxy(folder), folder.settings.proxy.port) as port:
        yield port


@pytest.fixture(scope="module")
def caddy(tmp_path_factory):
    """Port of a Caddy."""
    if shutil.which("caddy") is None:
        pytest.skip("needs caddy (Debian: caddy)")
    folder = free(tmp_path_factory.mktemp("consortium"))
    port, superlink = folder.settings.proxy.port, folder.settings.local.superlink
    text = (Path(__file__).parents[3] / "deploy" / "coordinator" / "Caddyfile").read_text()
    file = folder.run / "Caddyfile"
    file.write_text(text.replace(":8443", f":{port}").replace(":18000", f":{superlink}"))
    command = ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
    with started(command, port, CONSORTIUM=str(folder.root), XDG_DATA_HOME=str(folder.run)) as at:
        yield at


@pytest.mark.parametrize(("path", "megabytes"), [(CALL, 0), (PIECE, 0)])
def test_caddy_lets_through_what_hospitals_send(caddy, path, megabytes):
    assert post(caddy, path, megabytes) == PASSED


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [(PIECE, {}, 401), (CALL, KEYS | {"flwr-signature": "no"}, 401), ("/v1/control/start-run", KEYS, 403)],
)
def test_caddy_answers_the_rest_before_its_body_is_sent(caddy, path, headers, status):
    assert post(caddy, path, 15, headers, send=False) == status


def post(port, path, megabytes=0.0, headers=KEYS, send=True):
    """Status of a call; with `send` false its body is announced and never sent."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    size = int(megabytes * 2**20)
    connection.putrequest("POST", path)
    for name, value in (headers | {"content-length": str(size)}).items():
        connection.putheader(name, value)
    connection.endheaders()
    if send and size:
        connection.send(b"x" * size)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("path", "megabytes", "status"),
    [(CALL, 0, PASSED), (CALL, 0.9, PASSED), (PIECE, 6, PASSED), (PIECE, 15.9, PASSED)],
)
def test_what_hospitals_send_passes(proxy, path, megabytes, status):
    assert post(proxy, path, megabytes) == status


@pytest.mark.parametrize(
    ("path", "megabytes", "headers", "status"),
    [
        (CALL, 1.1, KEYS, 413),
        (PIECE, 16.1, KEYS, 413),
        (PIECE, 15, {}, 401),
        (CALL, 0.5, {}, 401),
        (PIECE, 15, KEYS | {"flwr-signature": ""}, 401),
        (PIECE, 15, KEYS | {"flwr-public-key": "{}" * 30}, 401),
        (PIECE, 15, KEYS | {"flwr-timestamp": "now"}, 401),
        ("/v1/fleet/push-object/", 0.5, KEYS, 403),
        ("/v1/fleet/push-object/", 15, KEYS, 413),
        ("/v1/control/start-run", 0.5, KEYS, 403),
        ("/v1/fleet/%70ush-object", 0.5, KEYS, 403),
    ],
)
def test_the_rest_is_answered_before_its_body_is_sent(proxy, path, megabytes, headers, status):
    assert post(proxy, path, megabytes, headers, send=False) == status


def test_few_pieces_at_a_time_from_one_address(proxy):
    """Twenty calls that begin a piece of 15 MB and wait: eight are held, the others go away at once."""
    port = proxy
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    head = "".join(f"{name}: {value}\r\n" for name, value in KEYS.items())
    head = f"POST {PIECE} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 15000000\r\n\r\n"
    begun = head.encode() + b"x" * 10**6

    def begin(_):
        held = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost")
        held.sendall(begun)
        held.settimeout(1.0)
        try:
            return held, held.recv(100)
        except TimeoutError:
            return held, b""

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(begin, range(20)))
    for held, _ in found:
        held.close()
    answered = [said for _, said in found if said]
    assert len(answered) == 12
    assert all(b" 503 " in said for said in answered)


def test_the_size_of_a_piece_is_a_setting(tmp_path):
    folder = make(tmp_path / "heart", "heart", ["localhost"], 443, "", None, 3650, 365)
    assert "client_max_body_size 16m;" in nginx_conf(folder)
    values = folder.settings.model_dump()
    values["proxy"]["largest_mb"] = 100
    write_file(folder.settings_file, settings_toml(Consortium.model_validate(values)).encode())
    assert "client_max_body_size 100m;" in nginx_conf(Folder(folder.root))
