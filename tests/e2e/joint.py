"""A consortium of four hospitals that share the noise of their runs: real processes, TLS, rosters, ledgers."""

import contextlib
import os
import signal
import textwrap
from collections.abc import Mapping
from pathlib import Path

from typer.testing import CliRunner

from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind_client.command import app as site_app
from remind_client.ledger.account import RunAccount, account_of
from remind_client.site_config import SiteConfig, load_site_config
from tests.e2e.loopback import Hospital, set_value
from tests.e2e.week import Week
from tests.e2e.wire import Wire
from tests.machine import free_ports, until

RARELY = 2.0  # seconds between two questions to the coordinator, which cost more than a look at a file
NAMES = ("east", "north", "south", "west")
POLICY = """[policy.privacy]
require = ["joint"]
epsilon_per_run = 10.0
tell = true
"""
SETTINGS = (
    'privacy.mode="joint" privacy.counts-noise=1.0 privacy.noise=2.0 privacy.epsilon=10.0 '
    'federation.secure-aggregation=true federation.encoders="shared" federation.min-sites=3 federation.retries=1 '
    'method.objective="erm" evaluation.calibration="none" train.local-steps=1 model.width=16 model.experts=4 '
)
# This code runs in each hospital's processes: the site stands still at a given phase of a round, until it is killed or
# let go. Its heartbeats are as frequent as Flower allows, so that one that was killed is missed after 20 s and not 60.
STOPPING = """
    import importlib.abc, importlib.util, os, pathlib, sys, time

    def stopping(module):
        read, send = module._read_request, module.to_record
        module._read_request = lambda message: stop("before", read(message))
        module.to_record = lambda reply, buffer=None: send(*stop("after", (reply, buffer)))

    def often(module):
        module.HEARTBEAT_DEFAULT_INTERVAL = module.HEARTBEAT_MIN_INTERVAL

    CHANGES = {"remind_client.launcher.door": stopping, "flwr.common.constant": often}

    class Changing(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            change = CHANGES.pop(name, None)
            if change is None:
                return None
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                change(module)

            spec.loader.exec_module = exec_module
            return spec

    def number(message):
        return message.ask.slot if hasattr(message, "ask") else getattr(message, "round", -1)

    def stop(when, found):
        at = pathlib.Path(os.environ["STOP_AT"])
        if at.is_file() and at.read_text() == f"{when} {type(found[0]).__name__} {number(found[0]) + 1}":
            stopped = at.with_name("stopped")
            at.rename(stopped)
            while stopped.exists():
                time.sleep(0.05)
        return found

    sys.meta_path.insert(0, Changing())
"""


class Joint(Week):
    """Four hospitals, whose connection to the coordinator is recorded."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.wire: Wire | None = None
        (home / "stopping").mkdir()
        (home / "stopping" / "sitecustomize.py").write_text(textwrap.dedent(STOPPING))

    def enrol_all(self, more: Mapping[str, str]) -> None:
        """Enrol every hospital, and compare all rosters. `more`: additional lines of a hospital's policy."""
        c, two = self.coordinator, {"law": "independent", "missing": "0.4, 0.4", "kinds": "table, table"}
        given = SyntheticConfig.model_validate({"patients": 400, "standardise": "given", **two})
        self.wire = wire = Wire(c.port, c.folder.server, c.folder.trust)
        patients = generate(given, 0)  # one cohort, as their tables have the same declared scales
        for number, name in enumerate(NAMES):
            cohort, folder = self.home / f"cohort-{name}", self.home / name
            write_cohort(patients.take(range(100 * number, 100 * (number + 1))), cohort)
            c.ask("kit", c.where, name, "--out", self.home / "kits")
            said = _site("init", self.home / "kits" / name, "--folder", folder, "--cohort", cohort)
            settings, (health,) = folder / "site.toml", free_ports(1)
            for old, new in (
                ("health_port = 8780", f"health_port = {health}"),
                ('device = "auto"', 'device = "cpu"'),
                ("threads = 0", "threads = 1"),
                ('# roster = "roster.toml"', 'roster = "roster.toml"'),
                ("[policy.privacy]", POLICY + more.get(name, "")),
                ('tensors = ["shared", "group:*"]', 'tensors = ["shared", "group:*", "encoder:*"]'),
                (f":{c.port}", f":{wire.port}"),
            ):
                set_value(settings, old, new)
            fingerprint = next(word for word in said.split() if word.startswith("SHA256:"))
            c.ask("enrol", c.where, folder / "enrolment-request.json", "--fingerprint", fingerprint)
            self.sites[name] = Hospital(folder, health)
        roster = c.ask("roster", c.where)
        for site in self.sites.values():
            (site.folder / "roster.toml").write_text(roster)
            assert all(name in _site("roster", "-c", site.folder) for name in NAMES)

    def start_all(self) -> None:
        """Start every hospital."""
        for site in self.sites.values():
            self.start(site)
        for name in self.sites:
            self.wait_ready(name)

    def start(self, site: Hospital) -> None:
        site.start(PYTHONPATH=str(self.home / "stopping"), STOP_AT=str(site.folder / "stop-at"))

    def stop_at(self, name: str, where: str) -> None:
        """Let a hospital stand still in a phase of a round, such as ``before Unmask 4``; dealing keys is of round 0."""
        (self.sites[name].folder / "stop-at").write_text(where)

    def wait_stopped(self, name: str) -> None:
        """Wait until a hospital stands still there."""
        site = self.sites[name]
        until((site.folder / "stopped").is_file, f"{name} stands still: {site.log.read_text()[-2000:]}", 240)

    def let_go(self, name: str) -> None:
        """Let it continue."""
        (self.sites[name].folder / "stopped").unlink()

    def kill(self, name: str) -> None:
        """When it stands still, kill all its processes with -9, the supervisor first; start it when it is missed."""
        site = self.sites[name]
        self.wait_stopped(name)
        assert site.process is not None
        site.process.kill()
        site.process.wait(30)
        for pid in processes_of(site):
            with contextlib.suppress(ProcessLookupError):  # it ended with its parent
                os.kill(pid, signal.SIGKILL)
        until(lambda: not processes_of(site), f"{name} is dead")
        self.let_go(name)
        until(lambda: not self.coordinator.online(name), f"{name} is missed", 90, RARELY)
        self.start(site)

    def wait_ready(self, name: str) -> None:
        """Wait until a hospital says that it is ready: the coordinator has accepted its heartbeat."""
        until(lambda: self.sites[name].ask("ready")[0] == 200, f"{name} is ready: {self.logs()}", 200)

    def end_of(self, run_id: str, limit: float = 240) -> str:
        """Wait for a run's end; its line in ``remind consortium runs``."""
        until(lambda: f"{run_id}  " in self.ended(), f"end of run {run_id}: {self.logs()}", limit, RARELY)
        return next(line for line in self.ended().splitlines() if line.startswith(run_id))

    def site(self, name: str) -> SiteConfig:
        return load_site_config(self.sites[name].folder)

    def account(self, name: str, run_id: str) -> RunAccount:
        """What ``remind-site ledger RUN`` shows."""
        (run,) = account_of(self.site(name).privacy_ledger, 1e-5, run=run_id).runs
        return run

    def paid_rounds(self, name: str, run_id: str) -> list[int]:
        """The rounds, from 1, whose gradient a hospital has paid for in a run; a round twice if it paid twice."""
        spends = self.site(name).privacy_ledger.spends(run_id)
        return [s.round + 1 for s in spends if s.round is not None and s.release.mechanism.what == "gradient"]

    def end(self) -> None:
        super().end()
        if self.wire is not None:
            self.wire.close()


def processes_of(site: Hospital) -> list[int]:
    """Every process of a hospital that still runs, by its environment."""
    mark, found = f"STOP_AT={site.folder / 'stop-at'}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (folder / "environ").read_bytes().split(b"\0")
            if ours and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(folder.name))
        except OSError:  # gone meanwhile, or not ours
            continue
    return found


def _site(*arguments: str | Path) -> str:
    """Run ``remind-site`` in this process."""
    done = CliRunner().invoke(site_app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return done.output
