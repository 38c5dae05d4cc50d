"""The launchers, the worker's socket, and the programs around them: real processes, no Flower."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

from remind_client.flower_internals import CLIENT_APP
from remind_client.launcher.address import ask_status, ask_to_stop
from remind_client.launcher.install import OTHERS, install_launchers
from remind_client.launcher.worker import Worker
from tests.machine import until


class Working:
    """A worker in a thread of the test, whose work is a function of the test."""

    def __init__(self, path: Path, work):
        self.worker = Worker(path, work)
        ready = threading.Event()
        self.thread = threading.Thread(target=self.worker.serve, args=(ready.set,))
        self.thread.start()
        assert ready.wait(60)

    def __enter__(self):
        return self.worker

    def __exit__(self, *_):
        self.worker.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def deep(tmp_path) -> Path:
    """A socket whose path is longer than a socket's address may be."""
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)
    return folder / "worker.sock"


def call(folder: Path, *arguments: str, name: str = CLIENT_APP, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [folder / name, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "REMIND_SITE"} | env,
    )


def test_a_task_goes_to_the_worker_as_flower_called_it(tmp_path, deep):
    install_launchers(tmp_path / "bin with space", deep)
    heard = []
    with Working(deep, lambda arguments: (heard.append(list(arguments)), 7)[1]) as worker:
        words = ["--runtime-api-address", "127.0.0.1:1", "--token", 'a "b" $c']
        assert call(tmp_path / "bin with space", *words).returncode == 7
        assert heard == [words]
        assert worker.status()["tasks_done"] == 1
        assert deep.stat().st_mode & 0o777 == 0o600


def test_tasks_are_done_one_at_a_time(tmp_path, deep):
    install_launchers(tmp_path / "bin", deep)
    inside, most = [], []

    def work(arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return 0

    with Working(deep, work) as worker:
        callers = [threading.Thread(target=call, args=(tmp_path / "bin", str(i))) for i in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        assert worker.status()["tasks_done"] == 4
    assert max(most) == 1


@pytest.mark.parametrize("state", ["none wanted", "none there", "left behind", "stopping"])
def test_without_a_worker_the_task_gets_a_process_of_its_own(tmp_path, deep, state):
    install_launchers(tmp_path / "bin", None if state == "none wanted" else deep)
    if state == "left behind":
        with socket.socket(socket.AF_UNIX) as dead:
            folder = os.open(deep.parent, os.O_PATH)
            dead.bind(f"/proc/self/fd/{folder}/{deep.name}")
            os.close(folder)
    if state == "stopping":
        hold = threading.Event()
        with Working(deep, lambda arguments: hold.wait(60) and 0) as worker:
            first = threading.Thread(target=call, args=(tmp_path / "bin", "first"))
            first.start()
            until(lambda: worker.status()["busy_seconds"] is not None)
            worker.stop()
            done = call(tmp_path / "bin", "second")
            hold.set()
            first.join(60)
    else:
        done = call(tmp_path / "bin", "second")
    assert done.returncode == 1
    assert "REMIND_SITE is not set" in done.stderr, "that is the program for one task"


def test_a_task_that_fails_does_not_end_the_worker(tmp_path, deep, caplog):
    install_launchers(tmp_path / "bin", deep)

    def work(arguments):
        if arguments == ["exit"]:
            raise SystemExit(2)
        if arguments == ["error"]:
            raise RuntimeError("boom")
        return 0

    with Working(deep, work):
        assert [call(tmp_path / "bin", word).returncode for word in ("exit", "error", "fine")] == [1, 1, 0]


def test_a_worker_that_dies_with_a_task_is_a_failed_task_and_not_a_second_one(tmp_path, deep):
    """The task may be half done: doing it again elsewhere would be worse than saying that it failed."""
    install_launchers(tmp_path / "bin", deep)
    script = f"""
import os, signal
from pathlib import Path
from remind_client.launcher.worker import Worker
Worker(Path({str(deep)!r}), lambda a: os.kill(os.getpid(), signal.SIGKILL)).serve(lambda: print("ready", flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "ready\n"
        done = call(tmp_path / "bin", "x")
        assert worker.wait(60) == -signal.SIGKILL
    assert done.returncode == 1
    assert "REMIND_SITE" not in done.stderr


def test_a_task_is_stopped_on_request_and_the_worker_stays(tmp_path, deep):
    """In a process of its own: the stop is a signal to the process, as Flower's."""
    install_launchers(tmp_path / "bin", deep)
    script = f"""
import signal, time
from pathlib import Path
from remind_client.launcher.task import TaskStopped, _stoppable
from remind_client.launcher.worker import Worker

def work(arguments):
    try:
        with _stoppable():
            time.sleep(60 if arguments == ["long"] else 0)
    except TaskStopped:
        return 3
    return 0

signal.signal(signal.SIGINT, signal.SIG_IGN)
Worker(Path({str(deep)!r}), work).serve(lambda: print("ready", flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "ready\n"
        done = []
        caller = threading.Thread(target=lambda: done.append(call(tmp_path / "bin", "long").returncode))
        caller.start()
        until(lambda: (ask_status(deep) or {}).get("busy_seconds") is not None)
        while ask_status(deep)["busy_seconds"] is not None:
            ask_to_stop(deep)
        caller.join(60)
        assert done == [3]
        ask_to_stop(deep)
        assert call(tmp_path / "bin", "short").returncode == 0, "idle, a stop is nobody's"
        worker.kill()


@pytest.mark.parametrize(
    "nonsense", [b"", b"\n", b"{}\n", b"[]\n", b"null\n", b'{"do": "task"}\n', b"x" * 100_000 + b"\n"]
)
def test_nonsense_on_the_socket_does_no_harm(deep, nonsense, caplog):
    with Working(deep, lambda arguments: 0):
        folder = os.open(deep.parent, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(f"/proc/self/fd/{folder}/{deep.name}")
            stranger.sendall(nonsense)
            stranger.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):  # hung up on before it had said everything
                assert stranger.recv(100) == b""
        os.close(folder)
        assert ask_status(deep) == {"busy_seconds": None, "tasks_done": 0, "stopping": False}
    assert ask_status(deep) is None


def test_no_other_kind_of_task_has_anything_to_do_here(tmp_path):
    """What a message becomes, the coordinator decides; an AgentApp's program would import what its bundle brings."""
    install_launchers(tmp_path, None)
    assert {path.name for path in tmp_path.iterdir()} == set(TASK_TYPE_TO_COMMAND.values())
    for name in OTHERS:
        done = call(tmp_path, "--token", "x", name=name)
        assert done.returncode == 1
        assert "refused" in done.stderr
    assert "flwr-agentapp" in OTHERS
