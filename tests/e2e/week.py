"""A consortium whose coordinator and hospitals are real processes, from its start to its end."""

import json
import re
import subprocess
from pathlib import Path

from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from tests.e2e.coordinator import Coordinator
from tests.e2e.loopback import Hospital, share_machine, site_command
from tests.machine import free_ports, until

ORDINARY = "train.warmup-rounds=1 train.routing-rounds=0 train.local-steps=2 "


class Week:
    """The coordinator, and the pages and commands that people use."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.coordinator = Coordinator(home / "coordinator")
        self.sites: dict[str, Hospital] = {}
        self.runs = 0

    def enrol(self, name: str, seed: int) -> Hospital:
        c, folder = self.coordinator, self.home / name
        c("kit", c.where, name, "--out", self.home / "kits")
        write_cohort(generate(SyntheticConfig(patients=200), seed), self.home / f"cohort-{name}")
        kit = self.home / "kits" / name
        made = site_command("init", kit, "--folder", folder, "--cohort", self.home / f"cohort-{name}")
        assert made.returncode == 0, made.stderr
        (health,) = free_ports(1)
        share_machine(folder, health)
        fingerprint = re.search(r"SHA256:\S+", made.stdout + made.stderr)[0]
        c("enrol", c.where, folder / "enrolment-request.json", "--fingerprint", fingerprint)
        self.sites[name] = Hospital(folder, health)
        return self.sites[name]

    def begin(self, settings: str) -> tuple[str, Path]:
        """Start a run; its id and its folder."""
        self.runs += 1
        out, c = self.home / f"run-{self.runs}", self.coordinator
        said = c("run", c.where, "-c", f'{settings} results="{out}"')
        return re.search(r"run (\d+)", said)[1], out

    def run(self, settings: str = ORDINARY) -> list[dict]:
        """A run that ends well; its rounds."""
        run_id, out = self.begin(settings)
        until(lambda: self.coordinator.ended(run_id), f"end of run {run_id}", 240)
        (line,) = [line for line in self.ended().splitlines() if line.startswith(run_id)]
        assert "finished:completed" in line, line + (self.home / "coordinator" / "serve.log").read_text()[-6000:]
        return [json.loads(line) for line in (out / "rounds.jsonl").open()]

    def ended(self) -> str:
        return "\n".join(line for line in self.coordinator.runs() if "finished" in line)

    def stop(self, run_id: str) -> None:
        c = self.coordinator
        c("stop", c.where, run_id)

    def healthy(self) -> bool:
        """Whether every site says it is ready, and the coordinator that it is online."""
        return all(s.ask("ready")[0] == 200 for s in self.sites.values()) and self.coordinator.online(*self.sites)

    def wait_healthy(self, why: str, limit: float = 200) -> None:
        until(self.healthy, f"all healthy {why}: {self.logs()}", limit)

    def logs(self) -> str:
        return "\n".join(s.log.read_text()[-1500:] if s.log.exists() else "" for s in self.sites.values())

    def end(self) -> None:
        started = [site.process for site in self.sites.values() if site.process is not None]
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        self.coordinator.end()


def answered(rounds: list[dict]) -> list[list[str]]:
    return [round_["answered"] for round_ in rounds]
