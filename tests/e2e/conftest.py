"""Real Flower processes with their own home and port, ended after the test."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from flwr.cli.app import app
from typer.testing import CliRunner

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


class Flower:
    """The ``flwr`` command of this environment, and the SuperLink it starts."""

    def __init__(self, home: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.home = home
        self.env = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def __call__(self, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        """Run ``flwr`` with `arguments` to its end."""
        return subprocess.run(
            [BIN / "flwr", *arguments], env=self.env, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
        )

    def ask(self, *arguments: str) -> Any:
        """The same in this process; its answer. What is asked again and again shall not start a program each time.

        Only of a SuperLink with a name: the port of the local one Flower reads when it is imported.
        """
        with patch.object(sys, "__stdout__", io.StringIO()) as said:  # where Flower prints JSON
            CliRunner().invoke(app, [*arguments, "--format", "json"], env=self.env)
        return json.loads(said.getvalue())

    def finished(self, *arguments: str, cwd: Path, limit: float = 240) -> str:
        """Submit ``flwr run`` with `arguments`, wait until the run is completed, return its log."""
        done = self("run", *arguments, "--format", "json", cwd=cwd)
        submitted = json.loads(done.stdout)
        assert submitted["success"], done.stdout + done.stderr
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            status = self.status(submitted["run-id"])
            if status.startswith("finished"):
                log = self("log", submitted["run-id"], "--show").stdout
                assert status == "finished:completed", log
                return log
            time.sleep(1)
        pytest.fail(f"still {status} after {limit} s")

    def status(self, run_id: str) -> str:
        """Status of a run, as ``flwr list`` tells it."""
        listed = self("list", "--run-id", run_id, "--format", "json")
        return str(json.loads(listed.stdout)["runs"][0]["status"])

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
        """End every process, by its id: first asked, then made to."""
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
