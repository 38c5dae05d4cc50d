"""The state of a run from its own row, and whether its coordinator still sends heartbeats."""

import time
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from remind_server.store.schema import LOST, RUNNING, WAITING, RoundSite, Run, lost

Status = Literal["waiting", "running", "stalled", "finished", "incomplete", "failed"]
SILENCE = 30.0  # seconds without a heartbeat after which an active run counts as stalled


@dataclass(frozen=True)
class RunState:
    """Summary of a run. Times are seconds since 1970, UTC; `heard` is the coordinator's last heartbeat.

    `change` grows with every event of the run, except `answers`: the replies taken in the current round.
    """

    id: int
    name: str
    folder: str
    cohort: str
    seed: int
    version: str
    status: Status
    reason: str
    began: float
    heard: float
    ended: float | None
    round: int
    rounds: int
    stage: int
    round_began: float | None
    round_closes: float | None
    change: int
    answers: int


_NAMES = tuple(name for name in RunState.__dataclass_fields__ if name != "answers")
STORED = tuple(getattr(Run, name) for name in _NAMES)  # columns
_VALID = TypeAdapter(RunState)


def read_state(row: Any, answers: int) -> RunState:
    """Return the current summary of a run from a row of these columns; raises `ValidationError` if it is damaged."""
    valid = _VALID.validate_python({name: getattr(row, name) for name in _NAMES} | {"answers": answers})
    return run_state(valid, answers)


def run_state(run: Run | RunState, answers: int) -> RunState:
    """Return the current summary of a run."""
    values = {name: getattr(run, name) for name in _NAMES}
    if is_stalled(run):
        gone = time.time() - run.heard > LOST
        values |= lost(run.heard) if gone else {"status": "stalled"}
    return RunState(**values | {"answers": answers})


def is_stalled(run: Run | RunState) -> bool:
    """Return whether an active run has sent no heartbeat lately."""
    return run.status in (WAITING, RUNNING) and time.time() - run.heard > SILENCE


def answers_taken(session: Session, run_id: int | None = None) -> dict[int, int]:
    """Return the number of answers taken in the current round of each run."""
    join = select(RoundSite.run_id, func.count()).join(Run, Run.id == RoundSite.run_id)
    which = (Run.status == RUNNING) if run_id is None else (RoundSite.run_id == run_id)
    rows = session.execute(join.where(which, RoundSite.round == Run.round + 1).group_by(RoundSite.run_id))
    return {row[0]: row[1] for row in rows}
