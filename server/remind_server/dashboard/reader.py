"""Access to the run store. It decides what may be shown, once after each change of a run."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from remind.errors import UserError
from remind.metrics.score import Score
from remind.metrics.scores import EVERY, scores_of
from remind.outcomes.base import outcomes
from remind_server.dashboard.answers import Patients, ScoreName
from remind_server.dashboard.cells import Cells
from remind_server.dashboard.published import EVERYTHING, Published, published
from remind_server.dashboard.run_state import STORED, RunState, answers_taken, read_state, run_state
from remind_server.store.schema import Run

log = logging.getLogger(__name__)
Decision = TypeVar("Decision")
REMEMBERED = 512  # runs whose decisions are cached


class NoSuchRunError(UserError):
    """The store has no run with this number."""


class Reader:
    """Reads the store. Cells of fewer than `min_count` patients are suppressed in every answer."""

    def __init__(self, engine: Engine, min_count: int = 0) -> None:
        self.engine, self.min_count = engine, min_count
        self._published: dict[int, tuple[int, Published]] = {}
        self._deciding: dict[int, threading.Lock] = defaultdict(threading.Lock)
        self._soon: dict[int, int] = {}  # runs that are to be decided on in the background, and their `change`
        self._worker: threading.Thread | None = None
        self.decided = 0  # how many were, in the background
        self._decided: dict[Hashable, Any] = {}
        self._deciding_more = threading.Lock()

    def runs(self, limit: int = 200, offset: int = 0) -> list[RunState]:
        """Return the runs that can be read, newest first."""
        with Session(self.engine) as session:
            rows = session.execute(select(*STORED).order_by(Run.id.desc()).limit(limit).offset(offset)).all()
            answers = answers_taken(session)
        found = []
        for row in rows:
            try:
                found.append(read_state(row, answers.get(row.id, 0)))
            except ValidationError:
                continue  # a damaged row costs one row; the list of runs names it
        return found

    def total(self) -> int:
        """Return how many runs there are."""
        with Session(self.engine) as session:
            return session.scalar(select(func.count()).select_from(Run)) or 0

    def news(self) -> str:
        """Return a text that changes whenever the list of runs does."""
        return " ".join([*(f"{run.id}:{run.change}:{run.status}" for run in self.runs()), str(self.decided)])

    def state(self, run_id: int) -> RunState:
        """Return the summary of one run; raises `NoSuchRunError` if it does not exist."""
        with Session(self.engine) as session:
            run = self.run(session, run_id)
            return run_state(run, answers_taken(session, run_id).get(run_id, 0))

    def said(self, run_id: int) -> dict[str, Any]:
        """Return tags, notes and the archive mark of a run."""
        with Session(self.engine) as session:
            run = self.run(session, run_id)
            return {"tags": run.tags, "notes": run.notes, "archived": run.archived}

    def run(self, session: Session, run_id: int) -> Run:
        """Return the run of this number."""
        try:
            run = session.get(Run, run_id) if 0 < run_id < 2**31 else None
        except ValueError as error:
            raise UserError(f"run {run_id}: its row in the run store is damaged ({error})") from None
        if run is None:
            raise NoSuchRunError(f"there is no run {run_id}")
        return run

    def outcomes(self, *run_ids: int) -> list[str]:
        """Return what the models of these runs (none: of all runs) predict, in the order of `remind.outcomes`."""
        with Session(self.engine) as session:
            which = select(Run.outcome).where(Run.id.in_(run_ids)) if run_ids else select(Run.outcome)
            found = set(session.scalars(which.distinct()))
        return sorted(found, key=[*outcomes(), *sorted(found)].index)

    def unit(self, *run_ids: int) -> str:
        """Return the unit of the number that these runs predict; empty if there is none, or not one for all."""
        with Session(self.engine) as session:
            found = {(t or {}).get("unit", "") for t in session.scalars(select(Run.target).where(Run.id.in_(run_ids)))}
        return str(found.pop()) if len(found) == 1 else ""

    def parts(self, *run_ids: int) -> list[str] | None:
        """Return the names of the parts of what these runs (none: all runs) predict.

        Where runs differ in them, the names are numbers; None if no run has parts.
        """
        with Session(self.engine) as session:
            which = select(Run.target).where(Run.target.is_not(None))
            which = which.where(Run.id.in_(run_ids)) if run_ids else which
            told = [(target or {}).get("parts") for target in session.scalars(which)]
        found = {tuple(map(str, names)) for names in told if isinstance(names, list)}
        if len(found) == 1:
            return list(found.pop())
        return [str(1 + i) for i in range(max(map(len, found)))] if found else None

    def scores(self, *run_ids: int) -> dict[str, Score]:
        """Return the scores of what these runs (none: all runs) predict, in the order of lists."""
        parts = self.parts(*run_ids)
        found: dict[str, Score] = {}
        for outcome in self.outcomes(*run_ids):
            found |= scores_of(outcome, parts)
        return {name: found[name] for name in EVERY if name in found}

    def score(self, asked: ScoreName | None, *run_ids: int) -> ScoreName:
        """Return the score asked for if it is one of these runs' outcomes (none: of all runs), else their chief one."""
        found = [outcome for outcome in self.outcomes(*run_ids) if outcome in outcomes()]
        if asked is not None and (not found or asked in self.scores(*run_ids)):
            return asked
        return outcomes()[found[0]].chief if found else "auroc"

    def cells(self, session: Session, run_id: int, patients: Patients | None = None) -> Cells:
        """Return the run's cells; by default those of test patients if there are any."""
        return Cells(session, run_id, patients, self.published(session, self.run(session, run_id)).of)

    def published(self, session: Session, run: Run) -> Published:
        """Return what may be shown of a run; decided again after each change of the run."""
        with self._deciding[run.id]:  # two simultaneous requests need one decision
            seen, found = self._published.get(run.id, (None, None))
            if found is None or seen != run.change:
                found = published(session, run, self.min_count)
                self._published[run.id] = run.change, found
                while len(self._published) > REMEMBERED:
                    self._published.pop(next(iter(self._published)))
            return found

    def published_soon(self, run_id: int, change: int) -> Published | None:
        """Return what may be shown of a run if that is decided; otherwise decide in the background."""
        if self.min_count <= 1:
            return EVERYTHING
        seen, found = self._published.get(run_id, (None, None))
        if seen == change:
            return found
        self._soon[run_id] = change
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._decide, name="decisions", daemon=True)
            self._worker.start()
        return None

    def _decide(self) -> None:
        while self._soon:
            run_id, _ = self._soon.popitem()
            try:
                with Session(self.engine) as session:
                    self.published(session, self.run(session, run_id))
            except (UserError, SQLAlchemyError, RuntimeError) as error:
                log.warning("run %d: cannot decide what may be shown: %s", run_id, error)
            self.decided += 1

    def decide(self, key: Hashable, decide: Callable[[], Decision]) -> Decision:
        """Return the decision with this key, which names the run and its state; decide if there is none yet."""
        with self._deciding_more:
            if key not in self._decided:
                while len(self._decided) >= REMEMBERED:
                    self._decided.pop(next(iter(self._decided)))
                self._decided[key] = decide()
            found: Decision = self._decided[key]
            return found
