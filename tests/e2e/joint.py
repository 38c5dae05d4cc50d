"""A consortium of four hospitals that share the noise of their runs: real processes, TLS, rosters, ledgers."""

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
from tests.e2e.test_week import Week
from tests.e2e.wire import Wire
from tests.machine import free_ports, until

NAMES = ("east", "north", "south", "west")
POLICY = """[policy.privacy]
require = ["joint"]
epsilon_per_run = 25.0
tell = true
"""
SETTINGS = (
    'privacy.mode="joint" privacy.counts-noise=1.0 privacy.epsilon=20.0 federation.secure-aggregation=true '
    'federation.encoders="shared" method.objective="erm" evaluation.calibration="none" train.local-steps=1 '
    "train.routing-rounds=1 model.width=16 model.experts=4 federation.min-sites=3 federation.retries=0 "
)
# This code runs in each hospital's processes: the site pauses at a given phase, until it is killed.
STOPPING = """
    import importlib.abc, importlib.util, os, pathlib, signal, sys

    class Stopping(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "remind_client.launcher.door":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                read, send = module._read_request, module.to_record
                module._read_request = lambda message: stop("before", read(message))
                module.to_record = lambda reply, buffer=None: send(*stop("after", (reply, buffer)))

            spec.loader.exec_module = exec_module
            return spec

    def stop(when, found):
        at = pathlib.Path(os.environ["STOP_AT"])
        if at.is_file() and at.read_text() == f"{when} {type(found[0]).__name__}":
            at.rename(at.with_name("stopped"))
            signal.pause()
        return found

    sys.meta_path.insert(0, Stopping())
"""


class Joint(Week):
    """Four hospitals, whose connection to the coordinator is recorded."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.wire: Wire | None = None
        (home / "stopping").mkdir()
        (home / "stopping" / "sitecustomize.py").write_text(textwrap.dedent(STOPPING))

    def found(self, more: Mapping[str, str]) -> None:
        """Enrol every hospital, and compare all rosters. `more`: additional lines of a hospital's policy."""
        c, given = self.coordinator, SyntheticConfig(patients=800, standardise="given", kinds="table, " * 3 + "table")
        self.wire = wire = Wire(c.port, c.folder.server, c.folder.trust)
        patients = generate(given, 0)  # one cohort, as their tables have the same declared scales
        for number, name in enumerate(NAMES):
            cohort, folder = self.home / f"cohort-{name}", self.home / name
            write_cohort(patients.take(range(200 * number, 200 * (number + 1))), cohort)
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
            self.start(site)
        self.wait_healthy("in the beginning")

    def start(self, site: Hospital) -> None:
        site.start(PYTHONPATH=str(self.home / "stopping"), STOP_AT=str(site.folder / "stop-at"))

    def stop_at(self, name: str, where: str) -> None:
        """Pause a hospital in a phase, such as ``before Unmask`` or ``after MaskedAnswer``."""
        (self.sites[name].folder / "stopped").unlink(missing_ok=True)
        (self.sites[name].folder / "stop-at").write_text(where)

    def kill(self, name: str) -> None:
        """When it has paused, kill all its processes with -9, the supervisor first; then start it again."""
        site = self.sites[name]
        until((site.folder / "stopped").is_file, f"{name} stands still: {site.log.read_text()[-2000:]}", 120)
        assert site.process is not None
        site.process.kill()
        site.process.wait(30)
        for pid in processes_of(site):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not processes_of(site), f"{name} is dead")
        self.start(site)

    def end_of(self, run_id: str, limit: float = 240) -> str:
        """Wait for a run's end; its line in ``remind consortium runs``."""
        until(lambda: f"{run_id}  " in self.ended(), f"end of run {run_id}: {self.logs()}", limit)
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
