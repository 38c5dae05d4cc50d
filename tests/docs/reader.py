"""Somebody who types every command of a document, in its order, in one folder, and has little time.

The words of a command stay as they are written. What differs, for all documents alike:

- `MORE`: words added at the end, which make it short: fewer rounds, seeds, patients. Of an option that stands twice the
  last one counts. `FEWER_CELLS`: studies with fewer of what they go through.
- `PLACES`: folders outside the reader's own become folders below it; the cohorts under ``simulation/cohorts`` become
  small ones with the same hospitals' number.
- ``flwr run simulation/ …`` is typed as ``remind simulate …``, which does the same job (docs/running.md); the tests in
  tests/e2e and `.ci/run` type it as it is.
- A study does not repeat runs of an earlier command (`known_runs`): the public cohorts are all alike.
- Benchmarks that are studies run in this process, which has their libraries; all others are programs.
- What serves for ever is started, asked for its health and ended.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from flwr.serverapp import Grid
from typer.testing import CliRunner

from remind.cli import whole_app
from remind.config import SyntheticConfig
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.prediction.bundle import read_bundle
from remind_client.audit.events import Stopped
from remind_client.audit.log import segments
from remind_client.command import app as site_app
from remind_client.site_config import load_site_config
from remind_client.store.site_store import SiteStore
from remind_client.vault.key import new_key_file
from remind_server.consortium.command_options import open_folder
from remind_server.consortium.enrol import enrol
from remind_server.rounds.state import State
from remind_server.rounds.strategy import FedRemind
from tests.builders.enrolments import Hospital, Registry
from tests.builders.site_files import write_site
from tests.docs.commands import CHECKED, ROOT, blocks, spans, words_of
from tests.docs.known_runs import PROGRAMS, KnownRuns
from tests.docs.typed_words import (
    CODES,
    FEWER_CELLS,
    HOSPITAL,
    MODELS,
    MORE,
    NAMED,
    PORTS,
    RESUMED,
    RUN,
    RUN_IN_SETTINGS,
    SERVERS,
    SITES,
    TINY,
    TINY_FILE,
    at_start,
    excuse,
    studied,
)
from tests.machine import free_ports, until

STUDIED: set[tuple[str, ...] | None] = set()  # studies and benchmarks of documents that were typed before


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

    def __init__(self, folder: Path, known: KnownRuns) -> None:
        self.folder, self.typed, self.ports = folder, list[str](), dict[str, int]()
        self.known = known
        self.ending = contextlib.ExitStack()  # of what serves until all is typed
        shutil.copytree(ROOT / "simulation", folder / "simulation", ignore=shutil.ignore_patterns("__pycache__"))
        stand_in(folder / "simulation" / "cohorts")
        (folder / "results").mkdir()
        (folder / "backups").mkdir()
        results = folder / "coordinator" / "federated-remind" / "results"  # of the service's own account
        (results / "heart").mkdir(parents=True)
        (results / "heart" / "summary.json").write_text("{}")
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
            "/backup/": f"{folder}/backups/",
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
        if words[:3] == ["flwr", "run", "simulation/"]:
            words = ["remind", "simulate", *as_simulate(words[3:])]
        if at_start(words, RESUMED, False):
            self._stopped()
        if words[:2] == ["remind-site", "adapt"]:
            words = ["RUN" if word in MODELS else word for word in words]
        if words[:2] == ["remind", "bench"]:
            words = [FEWER_CELLS.get(word, word) for word in words]
        if "--merge-experts" in words:  # the models of a reader have two experts
            words = [*words, "--merge-experts", "1"]
        words = [self._here(word) for word in words]
        for word in words:
            if word.endswith(".csv"):  # two lines of a text write the same table; a reader would remove the first
                (self.folder / word).unlink(missing_ok=True)
        if words[:3] == ["remind", "data", "synth"]:  # the text makes what was put here in its place
            shutil.rmtree(self.folder / words[3], ignore_errors=True)
        trained = at_start(words, HOSPITAL, None)
        if trained is not None:
            self._hospital(trained)
        study = studied(words)
        if study not in STUDIED:
            with self.known.known(self.folder / "results"):
                (self._serve if at_start(words, SERVERS, "") else self._run)(words)
        if study:
            STUDIED.add(study)
        self.typed.append(shlex.join(words))

    def _here(self, word: str) -> str:
        for place, here in self.places.items():
            word = word.replace(place, here)
        if RUN.fullmatch(word):
            return str(self._run_at_hand())
        if word == "COMMIT":
            return "HEAD"
        if word == "CONSORTIUM":
            return str(self._consortium_at_hand())
        if RUN_IN_SETTINGS.search(word):
            return RUN_IN_SETTINGS.sub(str(self._run_at_hand()), word)
        return str(self.folder / NAMED[word]) if word in NAMED else word

    def _run_at_hand(self) -> Path:
        """The newest run; where there is none, one of the heart hospitals."""
        if not self._runs():
            self._run(["remind", "simulate", "--cohort", "simulation/cohorts/uci_heart4.toml"])
        return self._runs()[-1]

    def _consortium_at_hand(self) -> Path:
        """A consortium that a coordinator has made, with one hospital."""
        where = self.folder / "consortium"
        if not where.is_dir():
            words = ["--name", "heart", "--host", "remind.example.org", "--unencrypted-ca-key"]
            done = CliRunner().invoke(whole_app(), ["consortium", "init", str(where), *words])
            assert done.exit_code == 0, done.output
            enrol(open_folder(where, "enrol"), Registry(), Hospital("bern").request(), lambda request: None)
        return where

    def _stopped(self) -> None:
        """Leave a run of the heart hospitals that somebody stopped in its second round."""
        round_of = FedRemind._round

        def stop(strategy: FedRemind, grid: Grid, state: State) -> State:
            if state.round == 1:
                raise KeyboardInterrupt
            return round_of(strategy, grid, state)

        with patch.object(FedRemind, "_round", stop), contextlib.suppress(AssertionError):
            self._run(["remind", "simulate", "--cohort", "simulation/cohorts/uci_heart4.toml"])

    def _hospital(self, trained: bool) -> None:
        """The site whose commands are typed; with a run's model in its vault, as its run would have put it there."""
        place = Path(os.environ.get("REMIND_SITE") or self.folder)
        if not (place / "site.toml").is_file():
            new_key_file(write_site(place).vault_key_path)
            shutil.copytree(self.folder / "my-cohort", place / "cohort")
        site = load_site_config(place)
        if not segments(site.audit_log.folder):
            site.audit_log.append(Stopped(reason="evening"))
        if trained and not site.runs_folder.is_dir():
            part = read_bundle(self._run_at_hand()).part(SITES[0])
            SiteStore(site.runs_folder / "run-1", site.open_vault()).save_model(part)

    def _runs(self) -> list[Path]:
        return sorted(path.parent for path in (self.folder / "results").glob("*/config.json"))

    def _run(self, words: list[str]) -> None:
        typed = [*words, *at_start(words, MORE, ())]
        if typed[0] == "python" and typed[1] in PROGRAMS:
            code, said = in_this_process(typed[1:])
        elif typed[0] == "python":
            program = ["-m", typed[2]] if typed[1] == "-m" else [str(ROOT / typed[1])]
            command = [sys.executable, *program, *typed[1 + len(program) :]]
            done = subprocess.run(
                command, cwd=self.folder, env=environment(), capture_output=True, text=True, check=False, timeout=1200
            )
            code, said = done.returncode, done.stdout + done.stderr
        else:
            result = CliRunner().invoke(whole_app() if typed[0] == "remind" else site_app, typed[1:], input="y\n")
            code, said = result.exit_code, f"{result.output}\n{result.exception!r}"
        assert code in at_start(words, CODES, (0,)), f"$ {shlex.join(typed)}\n{said[-4000:]}"
        file, ports = at_start(words, PORTS, ("", ()))
        for port, free in zip(ports, free_ports(len(ports)), strict=True):
            settings = self.folder / file
            text, found = re.subn(rf"= {port}\b", f"= {free}", settings.read_text())
            if found:  # a second command of this kind leaves the file as it is
                settings.write_text(text)
                self.ports[port] = free

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


def in_this_process(words: list[str]) -> tuple[int, str]:
    """Run a benchmark that is a study as its program would, without loading all libraries again: exit code, output."""
    file, code = ROOT / words[0], 0
    with (
        io.StringIO() as said,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        patch.object(sys, "argv", words),
        patch.object(sys, "path", [str(file.parent), *sys.path]),
    ):
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return code, said.getvalue()


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
