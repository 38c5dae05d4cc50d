"""Real Flower processes with their own home and port, ended after the test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flwr.proto.control_pb2 import ListRunsRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

from remind.errors import UserError
from remind_server.consortium.proxy import nginx_program
from remind_server.flower_internals import run_status
from tests.e2e.coordinator import served
from tests.e2e.supernodes import Hospital
from tests.e2e.week import Week
from tests.machine import free_port, until

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


class Flower:
    """The ``flwr`` command of this environment, and the SuperLink that it starts."""

    def __init__(self, home: Path):
        self.home = home
        self.links: dict[str, ControlHttpClient] = {}  # by run, open: tests ask often for its status
        self.env = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def __call__(self, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        """Run ``flwr`` with `arguments`."""
        command = [str(BIN / "flwr"), *arguments]
        return subprocess.run(command, env=self.env, cwd=cwd, capture_output=True, text=True, timeout=1200, check=False)

    def finished(self, *arguments: str, cwd: Path, limit: float = 240) -> str:
        """Submit ``flwr run`` with `arguments`, wait until the run is completed, return its log."""
        done = self("run", *arguments, "--format", "json", cwd=cwd)
        submitted = json.loads(done.stdout)
        assert submitted["success"], done.stdout + done.stderr
        run_id = submitted["run-id"]
        until(lambda: self.status(run_id).startswith("finished"), f"end of run {run_id}", limit)
        log = self("log", run_id, "--show").stdout
        assert self.status(run_id) == "finished:completed", log
        return log

    def status(self, run_id: str) -> str:
        """Return the status of a run, as ``flwr list`` asks the run's local SuperLink for it."""
        if run_id not in self.links:
            self.links[run_id] = self.link_of(int(run_id))
        return run_status(int(run_id), self.links[run_id])[0]

    def link_of(self, run_id: int) -> ControlHttpClient:
        """Return the connection to the local SuperLink that has a run."""
        says = [RuntimeVersionHttpInterceptor(component_name="tests")]
        for port in self.local_ports():
            link = ControlHttpClient.from_server_address(
                f"127.0.0.1:{port}", insecure=True, root_certificates=None, interceptors=says
            )
            if run_id in link.ListRuns(ListRunsRequest()).run_dict:
                return link
            link.close()
        pytest.fail(f"no local SuperLink has run {run_id}")

    def local_ports(self) -> list[str]:
        """Ports of our local SuperLinks: `remind` starts one of its own if that of another app has other variables."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):  # gone meanwhile
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "--simulation" in words and "--port" in words:
                    found.append(words[words.index("--port") + 1])
        return found

    def processes(self) -> list[int]:
        """Ids of all processes that live in our FLWR_HOME, detached or not."""
        mark = f"FLWR_HOME={self.home}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:  # gone meanwhile, or not ours
                continue
        return found

    def end(self) -> None:
        """End every process by its id, first with SIGTERM, then with SIGKILL."""
        for link in self.links.values():
            link.close()
        for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            for pid in self.processes():
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    continue
            deadline = time.monotonic() + patience
            while self.processes() and time.monotonic() < deadline:
                time.sleep(0.2)
        assert not self.processes()


@pytest.fixture(scope="module")
def flower(tmp_path_factory):
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc, to find and end the processes that Flower detaches")
    flower = Flower(tmp_path_factory.mktemp("flwr"))
    yield flower
    flower.end()


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory):
    """A consortium that is served."""
    try:
        nginx_program("nginx")
    except UserError:
        pytest.skip("needs nginx: apt-get install nginx-light")
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


@pytest.fixture
def week(tmp_path):
    """A started consortium, without hospitals."""
    if sys.platform != "linux":
        pytest.skip("needs Linux: prlimit, /proc")
    try:
        nginx_program("nginx")
    except UserError:
        pytest.skip("needs nginx: apt-get install nginx-light")
    week = Week(tmp_path)
    try:
        week.coordinator.start()
        yield week
    finally:
        week.end()
