"""Start a run over the consortium, and wait for its end."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.privacy_plan import SOME, plan_of
from remind.run_settings import require_settings
from remind.secagg.limits import FEWEST
from remind_server.consortium.flower import Control, Run, UnreachableError, app_bundle
from remind_server.consortium.folder import Folder
from remind_server.consortium.ledger import read_ledger
from remind_server.consortium.run_record import RunRecord, read_record, records_of, status_text
from remind_server.rounds.checkpoints import resumable
from remind_server.simulation.flwr_pairs import read_pairs

LOOK = 2.0  # seconds between two queries of a run
PATIENCE = 60.0  # seconds; after a longer absence of the SuperLink, Flower marks the run as failed


class RunFailedError(UserError):
    """A run that failed or was stopped."""


def run_settings(typed: Sequence[str] | None) -> dict[str, Scalar]:
    """Parse and validate the settings of a run here, so that mistakes are not found only at the hospitals.

    Raises
    ------
    UserError
        A setting is not ``key=value``, or has an unknown key or a bad value, or settings exclude each other.
    """
    values = read_pairs(typed, "--run-config")
    require_settings(Config.from_flat(values, "--run-config"))
    return values


def plan_lines(folder: Folder, values: Mapping[str, Scalar]) -> list[str]:
    """Return what a run with these settings will cost a patient of a hospital; nothing without a guarantee."""
    enrolled = len(read_ledger(folder.ledger).active())
    plan = plan_of(Config.from_flat(values), (enrolled,) if enrolled >= FEWEST else SOME)
    return plan.lines() if plan is not None else []


def submit(control: Control, values: Mapping[str, Scalar]) -> int:
    """Start a run; return its id."""
    return control.start_run(app_bundle(), values)


def resumed_settings(control: Control, folder: Folder, run_id: int) -> dict[str, Scalar]:
    """The settings with which a run that ended too early continues: its own, its identity, and ``run.resume``.

    Raises
    ------
    UserError
        The run is not known or still going on, has ended well, or left no checkpoint.
    """
    record = read_record(folder, run_id)
    if record is None:
        raise UserError(f"run {run_id} has no record; `remind consortium runs` lists all runs")
    name = record.id or record.run
    for other in records_of(folder, name):
        found = control.run(int(other.run))
        if not found.finished:
            raise UserError(
                f"run {run_id} is still {found.status} as run {other.run}; `remind consortium stop {other.run}` ends it"
            )
    config, _ = resumable(Path(record.results))
    flat, usual = config.begun.flat(), Config().flat()
    own = {key: value for key, value in flat.items() if value != usual[key] and key != "results"}
    results = {} if record.results.endswith(f"/run-{name}") else {"results": record.results}
    return own | results | {"run.id": name, "run.resume": True}


def wait(
    control: Control, run_id: int, say: Callable[[str], None], read: Callable[[], RunRecord | None] = lambda: None
) -> Run:
    """Follow a run until it ends: print a line per round, then the score and the path of the results.

    Parameters
    ----------
    read
        Reads the run's record.

    Raises
    ------
    RunFailedError
        The run failed (the error quotes Flower) or was stopped.
    UnreachableError
        The SuperLink does not answer any more.
    """
    before, answered, round_ = "", time.monotonic(), 0
    while True:
        try:
            run, answered = control.run(run_id), time.monotonic()
        except UnreachableError:
            if time.monotonic() - answered > PATIENCE:
                raise
            time.sleep(LOOK)
            continue
        if (record := read()) is not None and record.round > round_:
            round_ = record.round
            say(_round_line(record))
        if run.finished:
            break
        if run.status != before:
            say(f"run {run_id}: {run.status}")
            before = run.status
        time.sleep(LOOK)
    record = read()
    say(f"run {run_id}: {status_text(run, record)}")
    if record is not None:
        say(_end_lines(record))
    if run.status != "finished:completed":
        details = run.details or f"see its log: FLWR_HOME=…/flwr flwr log {run_id} --show"
        raise RunFailedError(f"run {run_id} is {run.status}: {details}")
    return run


def _round_line(record: RunRecord) -> str:
    did = Counter(site.how for site in record.sites.values())
    others = [f"{name}: {site.why}" for name, site in sorted(record.sites.items()) if site.how != "answered"]
    without = f"; without {'; '.join(others)}" if others else ""
    return f"round {record.round} of {record.rounds}: {did['answered']} of {len(record.sites)} hospitals{without}"


def _end_lines(record: RunRecord) -> str:
    scores = [
        f"{name.upper() if name == 'auroc' else name} {v:.3f}" for name, v in record.scores.items() if v is not None
    ]
    score = [f"mean over hospitals, test patients: {', '.join(scores)}"] if scores else []
    return "\n".join([*score, f"results: {record.results}"])
