"""A coordinator's machine: the folder of its consortium, its commands, and its services as real programs."""

import contextlib
import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path

from typer.testing import CliRunner

from remind.errors import UserError
from remind_server.consortium.command import consortium_command
from remind_server.consortium.enrol import listed
from remind_server.consortium.flower import Control
from remind_server.consortium.folder import Folder
from remind_server.consortium.ledger import read_ledger
from tests.machine import free_ports, until

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


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
        """Run ``remind consortium …``; return its standard output, or its error message."""
        command = [sys.executable, "-m", "remind_server.consortium", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.env, cwd=self.home, capture_output=True, text=True, timeout=1200, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def ask(self, *arguments):
        """Run it in this process, so that repeated calls do not start a program each time."""
        done = CliRunner().invoke(consortium_command, [str(a) for a in arguments], env=self.env)
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.stdout

    def start(self):
        command = [sys.executable, "-m", "remind_server.consortium", "serve", str(self.where)]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, env=self.env, cwd=self.home, stdout=out, stderr=out)
        until(self.well, "consortium served", 180)

    def well(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.folder.settings.local.health}/health") as answer:
                return answer.status == 200
        except OSError:
            return False

    @cached_property
    def link(self):
        """The SuperLink's Control API, as the commands ask it, but open until the end: tests ask often."""
        return Control(self.folder.settings.superlink, self.folder.loopback_ca.read_bytes())

    def end(self):
        if "link" in vars(self):
            self.link.close()
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

    def online(self, *names):
        """Whether all these sites are online, as `list` says it."""
        try:
            nodes = self.link.nodes()
        except UserError:  # the SuperLink is not there at the moment
            return False
        status = {row.site.name: row.status for row in listed(read_ledger(self.folder.ledger), nodes)}
        return all(status[name] == "online" for name in names)

    def ended(self, run_id):
        """Whether a run has ended, as `runs` says it."""
        return self.link.run(int(run_id)).finished

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


@contextlib.contextmanager
def served(home):
    coordinator = Coordinator(home)
    try:
        coordinator.start()
        yield coordinator
    finally:
        coordinator.end()
