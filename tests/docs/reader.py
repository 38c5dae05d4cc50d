"""Somebody who types every command of a document, in its order, in one folder, and has little time.

The words of a command stay as they are written. What differs, for all documents alike:

- `MORE`: words added at the end, which make it short: fewer rounds, seeds, patients. Of an option that stands twice the
  last one counts.
- `PLACES`: folders outside the reader's own become folders below it; the cohorts under ``simulation/cohorts`` become
  small ones with the same hospitals' number.
- ``flwr run simulation/ …`` is typed as ``remind simulate …``, which does the same job (docs/running.md); the tests in
  tests/e2e and `.ci/run` type it as it is.
- What serves for ever is started, asked for its health and ended.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from typer.testing import CliRunner

from remind.cli import whole_app
from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.prediction.bundle import read_bundle
from remind_client.command import app as site_app
from remind_client.site_config import load_site_config
from remind_client.store import SiteStore
from remind_client.vault.key import new_key_file
from tests.builders.site_files import write_site
from tests.docs.commands import CHECKED, NOT_CHECKED, ROOT, blocks, spans, words_of
from tests.machine import free_ports, until

Value = TypeVar("Value")
SITES = ("cleveland", "hungarian", "switzerland", "va")
TINY = (
    "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=1 train.batch=8 model.width=8 model.heads=2 "
    "model.experts=2 synthetic.patients=200"
)
SMALL = ("-c", TINY)
TINY_FILE = "tiny.toml"  # the same for a method that brings settings of its own
MORE = {
    ("remind", "simulate"): SMALL,
    ("remind", "bench", "list"): (),
    # Twenty hospitals' trees: each of a thousand messages has the whole model.
    ("remind", "bench", "joining"): (
        "--methods",
        "xgb_bagging: xgb_bagging(rounds = 2), xgb_cyclic: xgb_cyclic(rounds = 2)",
        "--seeds",
        "1",
    ),
    ("remind", "bench", "compare", "--methods", "paper"): (
        "--methods",
        f"paper+{TINY_FILE}",
        "--seeds",
        "1",
        "--jobs",
        "1",
    ),
    ("remind", "bench"): ("--seeds", "1", "--jobs", "1", "--no-anchors", *SMALL),
    ("remind", "analyze", "--cohort"): (*SMALL, "--patients", "10"),
    ("remind", "analyze"): ("--patients", "10"),
    ("remind", "data", "synth"): ("--patients", "120"),
    ("remind", "dashboard"): ("--port", "0"),
    ("remind-site", "serve"): ("--port", "0"),
    ("python", "benchmarks/cached_tokens.py"): ("--small", "--patients", "2", "--batch", "2", "--steps", "1"),
    ("python", "benchmarks/first_prediction.py"): ("--repeats", "1"),
    ("python", "benchmarks/group_routing.py"): ("--size", "small", "--repeats", "2", "--steps", "1"),
    ("python", "benchmarks/honest_updates.py"): SMALL,
    ("python", "benchmarks/options.py"): ("--seeds", "1", *SMALL),
    ("python", "benchmarks/preset.py"): ("--seeds", "1", "--jobs", "1", *SMALL),
    ("python", "benchmarks/prediction_memory.py"): ("--few", "100", "--many", "200"),
    ("python", "benchmarks/serve_latency.py"): ("--repeats", "2", "--patients", "1", "2"),
    ("python", "benchmarks/warm_worker.py"): ("--patients", "150", "--rounds", "2"),
}
# Commands of ours that cannot be typed here, and why.
NOT_HERE = {
    ("remind", "simulate", "--resume"): "needs a run that was stopped; tests/e2e/test_resume.py has one",
    ("flwr", "run", "simulation/", "--resume"): "needs a run that was stopped; tests/e2e/test_resume.py has one",
    ("remind", "dashboard", "--import"): "needs a folder of finished runs; tests/dashboard/test_import.py has one",
    ("remind-site", "adapt"): "needs a finished model; tests/client/test_adapt.py has one",
    ("remind-site", "export"): "needs a hospital that has trained; tests/client/test_site_export.py has one",
    ("remind", "data", "import"): "needs files that are not public; tests/data/importers makes files like them",
    ("remind", "consortium", "run"): "needs three hospitals that are online; tests/e2e/test_afternoon.py has them",
    ("remind-site", "approve"): "needs a run that waits for it; tests/client/test_approval.py has one",
    ("remind-site", "vault", "rotate"): "its words change site.toml, too; tests/client/test_vault.py rotates",
    ("remind", "export", "--site"): "names an option; docs/export.md has the command",
    ("remind", "predict", "heart-model"): "needs an export with --site; tests/e2e/test_serve.py predicts with one",
    ("remind", "bench", "widths(small = 4)"): "a study that the reader writes; the tests of docs/extend.md write it",
    ("remind", "--install-completion"): "changes the settings of the reader's shell",
    (
        "python",
        "benchmarks/golden_runs.py",
    ): "trains by each method of two commits; tests/test_benchmarks.py starts it",
    ("python", "benchmarks/soft_moe.py"): "needs the packages of the extra 'benchmarks'",
}
SERVERS = {
    ("remind", "dashboard"): "remind.cli",
    ("remind", "consortium", "serve"): "remind.cli",
    ("remind-site", "run"): "remind_client",
    ("remind-site", "serve"): "remind_client",
}
HOSPITAL = (("remind-site", "predict"), ("remind-site", "serve"))  # of a hospital that has a trained model
# Exit codes beside 0 that are right here: nobody serves the consortium, and the name of the coordinator leads nowhere.
CODES = {("remind", "consortium", "check"): (0, 10), ("remind-site", "check"): (0, 10, 11)}
# Ports of health pages and of Flower may be taken on this machine: where the numbers stand after these commands.
PORTS = {
    ("remind", "consortium", "init"): ("coordinator/consortium/consortium.toml", ("18000", "18080")),
    ("remind-site", "init"): ("site/site.toml", ("8780",)),
}
UNKNOWN = re.compile(r"…|^[A-Z]{3,}(?:-[A-Z]+)*$")  # what only the reader knows
RUN = re.compile(r"RUN|results/(?:RUN|heart|my-run|\d{8}-\d{6}-\S+)")  # a run that the text takes as given
NAMED = {
    "DIR": "coordinator/consortium",
    "KIT": "coordinator/kits/bern",
    "NEW": "new-patients",
    "COHORT": "new-patients",
}
# The guides of a consortium are typed together, by turns; each of the other documents, of those with commands, alone.
GUIDES = ("coordinator-guide.md", "hospital-guide.md")
# Documents whose commands are parsed (test_commands.py) and not typed yet, most of them for the time that they take.
LATER = (
    *("adapt.md", "benchmarks.md", "evidence.md", "exit-codes-coordinator.md", "methods.md", "next-test.md"),
    *("resume.md", "serve.md"),
)
ALONE = (
    *("CONTRIBUTING.md", "README.md", "analysis.md", "cohorts.md", "dashboard.md", "design.md"),
    *("encoders.md", "export.md", "extend.md", "importing.md", "predict.md", "privacy.md", "running.md"),
    *("studies.md", "tutorial.md"),
)


def at_start(words: list[str], table: Mapping[tuple[str, ...], Value], otherwise: Value) -> Value:
    """The value of the first key with which these words begin."""
    return next((value for key, value in table.items() if tuple(words[: len(key)]) == key), otherwise)


def excuse(words: list[str]) -> str:
    """Why a command is not typed; empty if it is."""
    if why := NOT_CHECKED.get(words[0]) or at_start(words, NOT_HERE, ""):
        return why
    unknown = [word for word in words if UNKNOWN.search(word) and word not in NAMED and not RUN.fullmatch(word)]
    return f"says {unknown[0]} for what only the reader knows" if unknown else ""


def stand_in(folder: Path) -> None:
    """Put a small cohort of four hospitals in the place of each public cohort."""
    made = generate(SyntheticConfig(patients=240), 0)
    write_cohort(replace(made, site_N=np.resize(SITES, len(made))), folder / "stand-in")
    declaration = (folder / "stand-in" / "cohort.toml").read_text()
    for path in folder.glob("*.toml"):
        path.write_text(f'root = "stand-in"\n{declaration}')


def commands(document: Path, folder: Path) -> list[list[str]]:
    """Every command of a document in its order, whether it stands in a block or in a line of text."""
    found = [(block.line, words) for block in blocks(document) for words in words_of(block, folder)[0]]
    return [words for _, words in sorted([*found, *spans(document)], key=lambda pair: pair[0])]


class Reader:
    """The reader, the folder that they type in, and what they have typed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.typed, self.ports = folder, list[str](), dict[str, int]()
        self.ending = contextlib.ExitStack()  # of what serves until all is typed
        shutil.copytree(ROOT / "simulation", folder / "simulation", ignore=shutil.ignore_patterns("__pycache__"))
        stand_in(folder / "simulation" / "cohorts")
        (folder / "results").mkdir()
        (folder / TINY_FILE).write_text(TINY.replace(" ", "\n"))
        made = generate(SyntheticConfig(patients=200), 0)
        for name in ("my-cohort", "my-embed", "mimic-iv", "path/to/cohort"):
            write_cohort(made, folder / name)
        write_cohort(replace(made, site_N=np.resize(SITES, len(made))), folder / "new-patients")
        self.places = {
            "/var/lib/remind/": f"{folder}/coordinator/",
            "/var/lib/remind-site": f"{folder}/site",
            "/etc/remind-site/": f"{folder}/etc/",
            "/path/to/": f"{folder}/path/to/",
            "/data/": f"{folder}/",
            "/abs/cohort.toml": f"{folder}/my-cohort/cohort.toml",
            "/abs/out": f"{folder}/out",
        }

    def read(self, document: Path) -> "Reader":
        """Type every command of a document."""
        for words in commands(document, self.folder):
            self.type(words)
        return self

    def type(self, words: list[str]) -> None:
        """Type a command, unless it is one that cannot be typed here."""
        if excuse(words):
            return
        assert words[0] in CHECKED
        words = [self._here(word) for word in words]
        if words[:3] == ["flwr", "run", "simulation/"]:
            words = ["remind", "simulate", *as_simulate(words[3:])]
        if words[:3] == ["remind", "data", "synth"]:  # the text makes what was put here in its place
            shutil.rmtree(self.folder / words[3], ignore_errors=True)
        if at_start(words, dict.fromkeys(HOSPITAL, True), False):
            self._trained()
        (self._serve if at_start(words, SERVERS, "") else self._run)(words)
        self.typed.append(shlex.join(words))

    def _here(self, word: str) -> str:
        for place, here in self.places.items():
            word = word.replace(place, here)
        if RUN.fullmatch(word):
            return str(self._run_at_hand())
        return str(self.folder / NAMED[word]) if word in NAMED else word

    def _run_at_hand(self) -> Path:
        """The newest run; where there is none, one of the heart hospitals."""
        if not self._runs():
            self._run(["remind", "simulate", "--cohort", "simulation/cohorts/uci_heart4.toml"])
        return self._runs()[-1]

    def _trained(self) -> None:
        """Put a hospital's part of a run into the vault of the site whose commands are typed, as its run would have."""
        place = Path(os.environ.get("REMIND_SITE") or self.folder)
        if not (place / "site.toml").is_file():
            new_key_file(write_site(place).vault_key_path)
        site = load_site_config(place)
        if not site.runs_folder.is_dir():
            part = read_bundle(self._run_at_hand()).part(SITES[0])
            SiteStore(site.runs_folder / "run-1", site.open_vault()).save_model(part)

    def _runs(self) -> list[Path]:
        return sorted(path.parent for path in (self.folder / "results").glob("*/config.json"))

    def _run(self, words: list[str]) -> None:
        typed = [*words, *at_start(words, MORE, ())]
        if typed[0] == "python":
            program = ["-m", typed[2]] if typed[1] == "-m" else [str(ROOT / typed[1])]
            command = [sys.executable, *program, *typed[1 + len(program) :]]
            done = subprocess.run(
                command, cwd=self.folder, env=environment(), capture_output=True, text=True, check=False, timeout=300
            )
            code, said = done.returncode, done.stdout + done.stderr
        else:
            result = CliRunner().invoke(whole_app() if typed[0] == "remind" else site_app, typed[1:], input="y\n")
            code, said = result.exit_code, f"{result.output}\n{result.exception!r}"
        assert code in at_start(words, CODES, (0,)), f"$ {shlex.join(typed)}\n{said[-4000:]}"
        file, ports = at_start(words, PORTS, ("", ()))
        for port, free in zip(ports, free_ports(len(ports)), strict=True):
            self.ports[port] = free
            settings = self.folder / file
            settings.write_text(re.sub(rf"= {port}\b", f"= {free}", settings.read_text()))

    def _serve(self, words: list[str]) -> None:
        """Start it, wait until it answers about its health, end it as a service manager does; a coordinator last."""
        log = self.folder / "server.log"
        command = [sys.executable, "-m", at_start(words, SERVERS, ""), *words[1:], *at_start(words, MORE, ())]
        stays = words[:3] == ["remind", "consortium", "serve"]
        with log.open("w") as out, contextlib.nullcontext(self.ending) if stays else contextlib.ExitStack() as ending:
            process = subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out, env=environment())
            ending.callback(process.wait, 60)
            ending.callback(process.terminate)

            def healthy() -> bool:
                assert process.poll() is None, f"$ {shlex.join(command)}\n{log.read_text()[-4000:]}"
                return answers(self._health(words, log.read_text()))

            until(healthy, f"health of {shlex.join(words)}", 120)

    def _health(self, words: list[str], said: str) -> str:
        """Address of the page that says whether a server is well; empty while it is not known yet."""
        if words[1] == "dashboard" or words[:2] == ["remind-site", "serve"]:
            found = re.search(r"^open (https?://[^/\s]+)", said, re.MULTILINE)
            return f"{found[1]}/{'health' if words[1] == 'dashboard' else 'ready'}" if found else ""
        return (
            f"http://127.0.0.1:{self.ports['8780']}/live"
            if words[1] == "run"
            else f"http://127.0.0.1:{self.ports['18080']}/health"
        )


def as_simulate(words: list[str]) -> Iterator[str]:
    """The words of ``flwr run simulation/`` as ``remind simulate`` takes them."""
    rest = iter(words)
    for word in rest:
        if word == "--federation-config":
            yield from ("--num-clients", next(rest).removeprefix("num-supernodes="))
        elif word != "--stream":
            yield word


def environment() -> dict[str, str]:
    """Environment of programs that the reader starts."""
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    return {k: v for k, v in os.environ.items() if k != "REMIND_STORE"} | own


def answers(address: str) -> bool:
    """Whether a page answers with 200."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return bool(answer.status == 200)
    except (ValueError, OSError):  # no address yet, nobody listens, another status
        return False
