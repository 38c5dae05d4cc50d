"""Starting a run over the consortium, and waiting for its end."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from remind.config import Config, Scalar
from remind.errors import UserError
from remind_server.consortium.flower import Control, Run, UnreachableError, app_bundle
from remind_server.consortium.run_record import RunRecord
from remind_server.simulation.flwr_pairs import read_pairs

LOOK = 2.0  # seconds between two looks at a run
PATIENCE = 60.0  # seconds in which a SuperLink that died must be back: longer, and the run has failed


class RunFailedError(UserError):
    """A run that ended, but not well."""


def run_settings(typed: Sequence[str] | None) -> dict[str, Scalar]:
    """Settings of a run as typed, checked: a mistake is said here, not at the hospitals.

    Raises
    ------
    UserError
        For what is not ``key=value``, unknown keys and bad values.
    """
    values = read_pairs(typed, "--run-config")
    Config.from_flat(values, "--run-config")
    return values


def submit(control: Control, values: Mapping[str, Scalar]) -> int:
    """Start a run; its id."""
    return control.start_run(app_bundle(), values)


def told(run: Run, record: RunRecord | None) -> str:
    """How a run stands, in words: Flower's status of its program, and who did not take part."""
    if record is None or record.status != "incomplete":
        return run.status
    return f"{run.status}, incomplete: without {record.reason}"


def wait(
    control: Control, run_id: int, say: Callable[[str], None], read: Callable[[], RunRecord | None] = lambda: None
) -> Run:
    """Follow a run to its end: a line per round, then the score and where the results lie.

    Parameters
    ----------
    read
        Reads the run's record.

    Raises
    ------
    RunFailedError
        If it failed, with what Flower says of it, or was stopped.
    UnreachableError
        If the SuperLink stays away.
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
    say(f"run {run_id}: {told(run, record)}")
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
