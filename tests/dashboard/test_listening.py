"""The page on a socket from a service manager, as in deploy/coordinator/remind-dashboard.socket."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from remind.errors import UserError
from remind.web.listening import listen

# What systemd does between fork and exec: the socket is file descriptor 3, and the variables name this very process.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
ALONE = ["unshare", "--map-root-user", "--net"]  # in a network of its own, without even loopback: PrivateNetwork=yes


def can_be_alone() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ALONE, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0


@contextmanager
def handed_over(results, *options, before=()):
    """The command, given a listening socket; process, port and the line that says where to open it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        command = [*before, sys.executable, "-c", HAND_OVER, str(listening.fileno())]
        command += ["-m", "remind_server.dashboard", "--results", str(results), *options]
        environment = {name: value for name, value in os.environ.items() if name != "REMIND_STORE"}
        process = subprocess.Popen(
            command,
            pass_fds=[listening.fileno()],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        said = [process.stdout.readline()]
        while said[-1] and not said[-1].startswith(("open ", "error: ")):
            said.append(process.stdout.readline())
        yield process, port, "".join(said)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.mark.parametrize("before", [(), ALONE], ids=["same network", "no network"])
def test_it_serves_on_the_socket_that_it_was_handed(tmp_path, before):
    if before and not can_be_alone():
        pytest.skip("needs user and network namespaces: unshare --map-root-user --net")
    with handed_over(tmp_path, before=before) as (process, port, said):
        assert f"open http://127.0.0.1:{port}/sign-in#token=" in said
        token = said.split("token=")[1].strip()
        assert httpx.get(f"http://127.0.0.1:{port}/health").text == "ok\n"
        answer = httpx.get(f"http://127.0.0.1:{port}/api/runs", headers={"Authorization": f"Bearer {token}"})
        assert answer.json() == []
        mine, its = (os.readlink(f"/proc/{who}/ns/net") for who in ("self", process.pid)) if before else ("", "-")
        assert mine != its
    assert (tmp_path / "runs.db").exists()


@pytest.fixture
def hand_over(monkeypatch):
    """Makes this process one that was handed a file of its own."""

    def do(file, number: str = "1") -> None:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", number)
        monkeypatch.setattr("remind.web.listening.HANDED_OVER", os.dup(file.fileno()))

    return do


@pytest.mark.parametrize("given", [("127.0.0.1", None), (None, 0)])
def test_an_address_beside_the_socket_is_refused(hand_over, given):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        hand_over(listening)
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{listening.getsockname()[1]}; omit these options"):
            listen(given[0], given[1], 1)


def test_a_socket_of_another_process_is_not_taken(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with listen("127.0.0.1", 0, 1) as own:
        assert own.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("number", ["0", "2"])
def test_it_listens_on_one_socket(hand_over, number):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        hand_over(listening, number)
        with pytest.raises(UserError, match=f"LISTEN_FDS={number}"):
            listen(None, None, 1)


def test_what_is_no_listening_tcp_socket_is_refused(hand_over, tmp_path):
    with socket.socket() as connecting, socket.socket(socket.AF_UNIX) as local, (tmp_path / "file").open("w") as file:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        for made in (file, connecting, local):
            hand_over(made)
            with pytest.raises(UserError, match="passed"):
                listen(None, None, 1)
