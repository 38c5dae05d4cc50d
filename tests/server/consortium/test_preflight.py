"""Problems that prevent serving a consortium are reported with a remedy before anything starts."""

import asyncio
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from remind.errors import UserError
from remind_server.consortium import preflight
from remind_server.consortium.authority import certificate_pem, issue_server, key_pem, load_key, new_key
from remind_server.consortium.certificates import load_certificates
from remind_server.consortium.command import consortium_command
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.health import OK, health_page
from remind_server.consortium.listing import served_health
from remind_server.consortium.make import make
from remind_server.consortium.preflight import problems, write_pids
from remind_server.consortium.proxy import nginx_conf, nginx_program, write_proxy
from remind_server.consortium.serve import serve
from remind_server.consortium.settings import Consortium, settings_toml
from tests.machine import free_ports


def change(folder, **parts):
    values = folder.settings.model_dump()
    for part, update in parts.items():
        values[part] |= update
    write_file(folder.settings_file, settings_toml(Consortium.model_validate(values)).encode())
    return Folder(folder.root)


@pytest.fixture
def servable(tmp_path):
    """A consortium on free ports, whose nginx is there: any program will do, for nothing is started."""
    public, superlink, health = free_ports(3)
    folder = make(tmp_path / "heart", "heart", ["localhost"], public, f"127.0.0.1:{public}", None, 3650, 365)
    return change(folder, local={"superlink": superlink, "health": health}, proxy={"program": sys.executable})


def test_all_is_well(servable):
    assert problems(servable) == []


@pytest.mark.parametrize("part", ["superlink", "health", "proxy"])
def test_a_port_that_is_taken(servable, part):
    settings = servable.settings
    port = {"superlink": settings.local.superlink, "health": settings.local.health, "proxy": settings.proxy.port}[part]
    with socket.create_server(("127.0.0.1", port)):
        (said,) = problems(servable)
    assert f"port {port} is taken" in said
    assert "ss -ltnp" in said


def test_a_port_taken_by_what_a_kill_has_left(servable, tmp_path):
    waits = (
        "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
        "print(1, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", waits, str(servable.settings.local.superlink), str(servable.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as left:
        try:
            left.stdout.readline()
            servable.run.mkdir()
            write_pids(servable, {"superlink": left.pid, "proxy": 1})
            (said,) = problems(servable)
        finally:
            left.kill()
    assert f"end superlink (pid {left.pid})" in said


def test_nginx_is_missing(servable):
    (said,) = problems(change(servable, proxy={"program": "nginx-that-is-not-there"}))
    assert "apt-get install nginx-light" in said


def test_without_a_proxy_of_ours_nginx_is_not_asked_for(servable):
    settings = {"program": "nginx-that-is-not-there", "kind": "none"}
    with socket.create_server(("127.0.0.1", servable.settings.proxy.port)):
        assert problems(change(servable, proxy=settings)) == []


@pytest.mark.parametrize("secret", ["server", "loopback", "superexec_secret", "ca_key"])
def test_a_secret_that_others_may_read(servable, secret):
    path = getattr(servable, secret)
    path.chmod(0o640)
    (said,) = problems(servable)
    assert f"chmod 600 {path}" in said


def test_the_ca_key_may_be_elsewhere_but_no_other_file(servable):
    servable.ca_key.unlink()
    assert problems(servable) == []
    servable.superexec_secret.unlink()
    (said,) = problems(servable)
    assert f"{servable.superexec_secret} is missing" in said


def expire(folder):
    ca_key = load_key(folder.ca_key.read_bytes(), None, "key")
    key, long_ago = new_key(), datetime.now(UTC) - timedelta(days=400)
    ca = load_certificates(folder.ca_certificate)[0]
    expired = issue_server(key.public_key(), folder.settings.public.hosts, ca_key, ca, 365, long_ago)
    write_file(folder.server, key_pem(key, None) + certificate_pem(expired))


def test_an_ended_certificate(servable):
    expire(servable)
    (said,) = problems(servable)
    assert "the server certificate expired" in said
    assert "remind consortium renew" in said


def test_all_problems_at_once_and_nothing_is_started(servable, monkeypatch):
    started = []
    monkeypatch.setattr("asyncio.create_subprocess_exec", lambda *command, **_: started.append(command))
    expire(servable)
    servable.superexec_secret.unlink()
    with pytest.raises(UserError, match=r"ended[\s\S]*|missing") as caught:
        serve(servable)
    assert str(caught.value).count("\n  - ") == 2
    assert started == []


def test_two_serves_of_one_consortium(servable):
    with servable.locked("serve", ""), pytest.raises(UserError, match="being served already"):
        serve(servable)


def test_flower_is_not_installed(servable, monkeypatch):
    monkeypatch.setattr(preflight, "environment", lambda _: {"PATH": "/nowhere"})
    (said,) = problems(servable)
    assert "flower-superlink is not installed" in said


def test_a_folder_that_nginx_could_not_name(tmp_path):
    folder = make(tmp_path / "my heart; root /", "heart", ["localhost"], 443, "", None, 10, 10)
    with pytest.raises(UserError, match="without spaces"):
        nginx_conf(folder)


def test_nginx_accepts_its_configuration(servable):
    folder = change(servable, proxy={"program": "nginx"})
    try:
        nginx_program("nginx")
    except UserError:
        pytest.skip("needs nginx (Debian: nginx-light)")
    folder.run.mkdir()
    command = write_proxy(folder)
    assert "403" in (folder.run / "nginx.conf").read_text()
    assert shutil.which(command[0])


def test_what_nginx_refuses_is_told(servable):
    try:
        nginx_program("nginx")
    except UserError:
        pytest.skip("needs nginx (Debian: nginx-light)")
    folder = change(servable, proxy={"program": "nginx"})
    folder.run.mkdir()
    folder.server.write_bytes(b"")
    with pytest.raises(UserError, match=r"nginx refuses[\s\S]*server\.pem"):
        write_proxy(folder)


@pytest.mark.parametrize("state", [OK, "not running"])
def test_the_health_page(servable, state):
    assert served_health(servable) is None

    async def scene():
        port = servable.settings.local.health
        page = await health_page(port, lambda: {"superlink": OK, "proxy": state})
        assert await asyncio.to_thread(served_health, servable) == {"superlink": OK, "proxy": state}
        with pytest.raises(UserError, match=rf"^local\.health: cannot listen on port {port}: Address already in use$"):
            await health_page(port, dict)
        page.close()
        await page.wait_closed()

    asyncio.run(scene())


def test_a_full_disk(servable, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert any("disk: 0 MiB free" in problem for problem in problems(servable))


def test_check_of_a_served_consortium_looks_at_the_disk(servable, monkeypatch):
    monkeypatch.setattr("remind_server.consortium.listing.served_health", lambda _: {"superlink": "ok", "proxy": "ok"})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
    well = CliRunner().invoke(consortium_command, ["check", str(servable.root)])
    assert (well.exit_code, "served, and well" in well.output) == (0, True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    full = CliRunner().invoke(consortium_command, ["check", str(servable.root)])
    assert full.exit_code == 10
    assert "0 MiB free" in full.output
