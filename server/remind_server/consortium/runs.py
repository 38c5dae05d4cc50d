"""Starting a run over the consortium, and waiting for its end."""

import time
from collections.abc import Callable, Mapping, Sequence

from remind.config import Config, Scalar
from remind.errors import UserError
from remind_server.consortium.flower import Control, Run, UnreachableError, app_bundle
from remind_server.flwr_pairs import read_pairs

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


def wait(control: Control, run_id: int, say: Callable[[str], None]) -> Run:
    """Follow a run to its end.

    Raises
    ------
    RunFailedError
        If it failed, with what Flower says of it, or was stopped.
    UnreachableError
        If the SuperLink stays away.
    """
    before, answered = "", time.monotonic()
    while True:
        try:
            run, answered = control.run(run_id), time.monotonic()
        except UnreachableError:
            if time.monotonic() - answered > PATIENCE:
                raise
            time.sleep(LOOK)
            continue
        if run.finished:
            break
        if run.status != before:
            say(f"run {run_id}: {run.status}")
            before = run.status
        time.sleep(LOOK)
    say(f"run {run_id}: {run.status}")
    if run.status != "finished:completed":
        details = run.details or f"see its log: FLWR_HOME=…/flwr flwr log {run_id} --show"
        raise RunFailedError(f"run {run_id} is {run.status}: {details}")
    return run
