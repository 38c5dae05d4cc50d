"""Convert the run store's rows into answers; suppression happens here, so that no output can omit it."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from remind.errors import UserError
from remind.metrics.aggregates import by_class
from remind.metrics.scores import SCORES
from remind_server.dashboard.answers import (
    Answer,
    Estimate,
    GroupRow,
    GroupTable,
    Measured,
    Patients,
    RunReport,
    RunState,
    SiteState,
    SortKey,
)
from remind_server.dashboard.cells import Cells
from remind_server.dashboard.published import EVERYTHING, SMALL, TAIL, Published, Shown, published
from remind_server.dashboard.together import is_ranked, merged_statistics, together
from remind_server.store.schema import (
    ALL,
    LOST,
    RUNNING,
    WAITING,
    Group,
    Round,
    RoundGroup,
    RoundSite,
    Run,
    Site,
    lost,
)

log = logging.getLogger(__name__)
Decision = TypeVar("Decision")
NO_PATIENTS = Measured(n=0)
_STATE = tuple(name for name in RunState.__dataclass_fields__ if name != "answers")
_VALID = TypeAdapter(RunState)
SILENCE = 30.0  # seconds without a heartbeat after which an active run counts as stalled
LOOK_BACK = 5  # rounds that a displayed change spans
ShownRound = tuple[dict[int, RoundGroup], Shown]  # the groups of a round, and which of them are shown
REMEMBERED = 512  # runs whose decisions are cached
_DESCENDING = (*(name for name, score in SCORES.items() if score.lower_is_better), "n", "weight", "train_n")


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
        """Runs that can be read, newest first."""
        columns = [getattr(Run, name) for name in _STATE]
        with Session(self.engine) as session:
            rows = session.execute(select(*columns).order_by(Run.id.desc()).limit(limit).offset(offset)).all()
            answers = _answers(session)
        found = []
        for row in rows:
            try:
                valid = _VALID.validate_python(row._asdict() | {"answers": answers.get(row.id, 0)})
            except ValidationError:
                continue  # a damaged row costs one row; the list of runs names it
            found.append(run_state(valid, valid.answers))
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
            return run_state(run, _answers(session, run_id).get(run_id, 0))

    def report(self, run_id: int, patients: Patients | None = None) -> RunReport:
        """Health and overall scores."""
        with Session(self.engine) as session:
            run = self.run(session, run_id)
            rounds = session.scalars(select(Round).where(Round.run_id == run_id).order_by(Round.round)).all()
            groups = session.scalars(select(Group).where(Group.run_id == run_id)).all()
            cells = self.cells(session, run_id, patients)
            recent = [round_.seconds for round_ in rounds[-3:]]
            mean = sum(recent) / len(recent) if recent else None
            state = run_state(run, _answers(session, run_id).get(run_id, 0))
            under_way = state.status in (WAITING, RUNNING, "stalled")
            return RunReport(
                run=state,
                patients=cells.patients,
                classes=run.classes,
                modalities=run.modalities,
                sites=self._sites(session, run),
                overall=cells.merged()[ALL],
                groups=len(groups),
                tail_groups=sum(group.tail for group in groups),
                last_seconds=recent[-1] if recent else None,
                mean_seconds=mean,
                left_seconds=mean * (run.rounds - run.round) if under_way and mean is not None else None,
                bytes_down=sum(round_.bytes_down for round_ in rounds),
                bytes_up=sum(round_.bytes_up for round_ in rounds),
                settings=run.config,  # type: ignore[arg-type]
            )

    def groups(
        self, run_id: int, by: SortKey = "log_loss", patients: Patients | None = None, reverse: bool = False
    ) -> GroupTable:
        """Every group, worst first by `by`, or best first if `reverse`; groups without that number last."""
        with Session(self.engine) as session:
            run = self.run(session, run_id)
            cells = self.cells(session, run_id, patients)
            back = min(LOOK_BACK, run.round - 1)
            change_of = by if by in SCORES else "log_loss"
            now, before = (self._round(session, run, r) for r in (run.round, run.round - back))
            found = session.scalars(select(Group).where(Group.run_id == run_id)).all()
            shown, merged = self.published(session, run), cells.merged()
            statistics = merged_statistics(session, run_id, cells.patients)
            classes_of = {number: by_class(one) for number, one in statistics.items()}
            rows = [
                GroupRow(
                    number=group.number,
                    name=group.name,
                    tail=group.tail,
                    train_n=group.train_n if shown.trained(group.number) else None,
                    train_suppressed=not shown.trained(group.number),
                    weight=row.weight_after if (row := self._trained(group, now[0], shown)) else None,
                    risk=row.risk if row else None,
                    scores=merged.get(group.number, NO_PATIENTS),
                    change=self._change(group.number, now, before, change_of) if back > 0 else None,
                    ranked=is_ranked(merged.get(group.number, NO_PATIENTS), classes_of.get(group.number, ())),
                )
                for group in found
            ]
            small = {row.number for row in rows if not row.ranked}
            tail = {row.number for row in rows if row.tail}
            classes = run.classes
        return GroupTable(
            run=run_id,
            patients=cells.patients,
            by=by,
            change_of=change_of,
            change_rounds=max(back, 0),
            rows=sorted(rows, key=_worst_first(by, reverse)),
            small=together(statistics, small, SMALL, cells.shown, classes, len(small)),
            tail=together(statistics, tail, TAIL, cells.shown, classes, len(tail)),
        )

    def said(self, run_id: int) -> dict[str, Any]:
        """Return what people say of a run: tags, notes, whether it is archived."""
        with Session(self.engine) as session:
            run = self.run(session, run_id)
            return {"tags": run.tags, "notes": run.notes, "archived": run.archived}

    def run(self, session: Session, run_id: int) -> Run:
        """The run of this number."""
        try:
            run = session.get(Run, run_id) if 0 < run_id < 2**31 else None
        except ValueError as error:
            raise UserError(f"run {run_id}: its row in the run store is damaged ({error})") from None
        if run is None:
            raise NoSuchRunError(f"there is no run {run_id}")
        return run

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
        """Return what may be shown of a run if that is known already; else find out in the background."""
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
        """Return what was decided under this key, which names the run and its state; decide it if that is new."""
        with self._deciding_more:
            if key not in self._decided:
                while len(self._decided) >= REMEMBERED:
                    self._decided.pop(next(iter(self._decided)))
                self._decided[key] = decide()
            found: Decision = self._decided[key]
            return found

    def _sites(self, session: Session, run: Run) -> list[SiteState]:
        absent, taken = self._absent(session, run, run.round), self._absent(session, run, run.round + 1)
        sites = sorted(session.scalars(select(Site).where(Site.run_id == run.id)), key=lambda site: site.name)
        answer = _answer_of(run, sites, taken)
        shown = self.published(session, run)
        return [
            SiteState(
                number=site.number,
                name=site.name,
                train_n=site.train_n if shown.trained_at(site.number) else None,
                train_suppressed=not shown.trained_at(site.number),
                asked=site.asked,
                answered=absent[site.number] is None if site.number in absent else None,
                absent=absent.get(site.number),
                refused=site.refused,
                answer=answer.get(site.number),
                problem=taken.get(site.number) if site.number in answer else None,
            )
            for site in sites
        ]

    def _absent(self, session: Session, run: Run, round_: int) -> dict[int, str | None]:
        """Return site → why it does not count (None: it counts), for sites whose answers are no longer awaited."""
        where = (RoundSite.run_id == run.id, RoundSite.round == round_)
        return {row.site: row.absent for row in session.scalars(select(RoundSite).where(*where))}

    def _trained(self, group: Group, rows: Mapping[int, RoundGroup], shown: Published) -> RoundGroup | None:
        """Return λ and R_k of a group if they may be shown: λ can start at the group's share and follows its R_k."""
        return rows.get(group.number) if shown.trained(group.number) else None

    def _round(self, session: Session, run: Run, round_: int) -> "ShownRound":
        where = (RoundGroup.run_id == run.id, RoundGroup.round == round_)
        rows = {row.group: row for row in session.scalars(select(RoundGroup).where(*where))}
        return rows, self.published(session, run).validation(round_)

    def _change(self, group: int, now: "ShownRound", before: "ShownRound", score: str) -> float | None:
        new, old = (
            getattr(rows[group], score) if group in rows and shown.score(ALL, group) else None
            for rows, shown in (now, before)
        )
        return None if new is None or old is None else float(new - old)


def _answers(session: Session, run_id: int | None = None) -> dict[int, int]:
    """Return the number of answers taken in the current round of each run."""
    join = select(RoundSite.run_id, func.count()).join(Run, Run.id == RoundSite.run_id)
    which = (Run.status == RUNNING) if run_id is None else (RoundSite.run_id == run_id)
    rows = session.execute(join.where(which, RoundSite.round == Run.round + 1).group_by(RoundSite.run_id))
    return {row[0]: row[1] for row in rows}


def _answer_of(run: Run, sites: Sequence[Site], taken: Mapping[int, str | None]) -> dict[int, Answer]:
    """Return the state of each site with a task in the current round; `sites` by name."""
    if run.status != RUNNING or run.round_began is None or _stalled(run):
        return {}
    in_order = run.config.get("federation.quorum", 1.0) == 1.0  # counted in the order of names (`exchange`)
    found: dict[int, Answer] = {}
    for site in sites:
        if site.number in taken:
            found[site.number] = "counts" if taken[site.number] is None else "does not count"
        elif site.asked:
            found[site.number] = "in line" if in_order and "awaited" in found.values() else "awaited"
    return found


def run_state(run: Run | RunState, answers: int) -> RunState:
    """Return the current summary of a run."""
    values = {name: getattr(run, name) for name in RunState.__dataclass_fields__ if name != "answers"}
    if _stalled(run):
        gone = time.time() - run.heard > LOST
        values |= lost(run.heard) if gone else {"status": "stalled"}
    return RunState(**values | {"answers": answers})


def _stalled(run: Run | RunState) -> bool:
    return run.status in (WAITING, RUNNING) and time.time() - run.heard > SILENCE


def _worst_first(by: SortKey, reverse: bool = False) -> Any:
    def key(row: GroupRow) -> tuple[bool, bool, float, Sequence[int]]:
        letters = [-ord(letter) for letter in row.name] + [1] if reverse else [ord(letter) for letter in row.name]
        if by == "name":
            return False, False, 0.0, letters
        few = by in SCORES and not row.ranked  # too few to rank: shown, but never as the worst
        value = getattr(row, by) if by in ("weight", "train_n") else getattr(row.scores, by)
        number = value.value if isinstance(value, Estimate) else value
        if number is None:
            return few, True, 0.0, letters
        return few, False, -number if (by in _DESCENDING) != reverse else number, letters

    return key
