"""Time of a round with and without the warm worker, over a real SuperLink with TLS on this machine.

    python benchmarks/warm_worker.py [--patients 2000] [--rounds 4]

There is one hospital, so a round is one message. Prints for each setting the medians over the rounds after the first:
seconds from one answer of the site to the next (a round at the coordinator, with Flower's polling: 3 s at the site, 3 s
at the coordinator, 1 s between), and seconds of the program at the site (imports, cohort, training).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.e2e.loopback import Consortium, Hospital, certificates, set_value, site_command  # noqa: E402
from tests.machine import free_port, until  # noqa: E402

BIN = Path(sys.executable).parent
TIMED = "import os, sys, time, subprocess\nbegan = time.time()\ncode = subprocess.call(sys.argv[2:])\n"
TIMED += 'open(sys.argv[1], "a").write(f"{time.time() - began}\\n")\nsys.exit(code)\n'


def superlink(folder: Path) -> tuple[Consortium, subprocess.Popen]:
    """A coordinator by Flower's own options."""
    ca, certificate, key = certificates(folder / "tls")
    port, home = free_port(), folder / "home"
    home.mkdir()
    env = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "prod"\n[superlink.prod]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{ca}"\n'
    )

    def flwr(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([BIN / "flwr", *arguments], env=env, capture_output=True, text=True, check=False)

    def ask(*arguments: str) -> dict[str, Any]:
        return json.loads(flwr(*arguments, "--format", "json").stdout)

    command = [
        *(BIN / "flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--enable-supernode-auth"),
        *("--ssl-ca-certfile", ca, "--ssl-certfile", certificate, "--ssl-keyfile", key),
        *("--database", folder / "state.db", "--disable-runtime-dependency-installation"),
    ]
    with (folder / "superlink.log").open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    until(lambda: ask("list", "prod")["success"], "SuperLink")
    return Consortium(folder, flwr, ask, port, ca), process


def measure(consortium: Consortium, folder: Path, warm: bool, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds between answers, and seconds of the program, per round of a run."""
    name = "warm" if warm else "cold"
    site, health = folder / name, free_port()
    site_command("init", consortium.kit(name), "--folder", site, "--cohort", folder / "cohort").check_returncode()
    set_value(site / "site.toml", "health_port = 8780", f"health_port = {health}\nwarm = {str(warm).lower()}")
    set_value(site / "site.toml", 'device = "auto"', 'device = "cpu"')
    set_value(site / "site.toml", "threads = 0", "threads = 1")
    consortium.enrol(site / "enrolment-request.json")
    hospital = Hospital(site, health)
    hospital.start()
    try:
        hospital.wait_ready()
        launcher, timed, times = site / "state" / "launchers" / "flwr-clientapp", folder / "timed.py", site / "times"
        timed.write_text(TIMED)
        launcher.rename(launcher.with_name("real"))
        line = f'exec {sys.executable} -I -S {timed} {times} {launcher.with_name("real")} "$@"'
        launcher.write_text(f"#!/bin/sh\n{line}\n")
        launcher.chmod(0o700)
        settings = (
            f"train.warmup-rounds={rounds - 1} train.routing-rounds=1 train.local-steps=2 federation.min-sites=1 "
        )
        run = consortium.submit(ROOT / "simulation", settings + f'results="{folder / name / "results"}"')
        status = consortium.finish(run, 60 + 60 * rounds)
        if status != "finished:completed":
            raise RuntimeError(f"{status}\n{hospital.log.read_text()[-3000:]}")
        until(lambda: len(times.read_text().split()) == rounds + 2, "the last program")
    finally:
        hospital.stop()
    answered = [
        datetime.fromisoformat(e["time"])
        for e in hospital.audit()
        if e["event"] == "answered" and e["answer"] == "Report"
    ]
    between = [(b - a).total_seconds() for a, b in pairwise(answered)]
    program = [float(text) for text in times.read_text().split()][2 : rounds + 1]
    return between, program


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="warm-worker-"))
    began = time.monotonic()
    try:
        write_cohort(generate(SyntheticConfig(patients=given.patients), 0), folder / "cohort")
        consortium, process = superlink(folder)
        try:
            print(f"{given.patients} patients, median of rounds 2 to {given.rounds}")
            for warm in (False, True):
                between, program = measure(consortium, folder, warm, given.rounds)
                name = "with the warm worker" if warm else "a process per message"
                apart, took = statistics.median(between), statistics.median(program)
                print(f"{name:22} round {apart:5.1f} s   program {took:5.2f} s", flush=True)
        finally:
            process.terminate()
            process.wait(20)
        print(f"measured in {time.monotonic() - began:.0f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
