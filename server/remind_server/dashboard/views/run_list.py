"""The list of runs: search, sort, filter, pages; one damaged row costs one row."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from remind.secagg.limits import TOGETHER
from remind_server.dashboard.answers import Patients, PatientScores
from remind_server.dashboard.cells import Cells
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.run_state import STORED, RunState, read_state
from remind_server.store.schema import ALL, RoundSite, Run, Site

PER_PAGE = 50
METHOD = ("method.fusion", "method.objective", "method.rule")
SortRuns = Literal["began", "name", "status", "cohort", "method", "seed", "seconds", "score", "missing"]
_COLUMNS = (*STORED, Run.tags, Run.notes, Run.archived)


@dataclass(frozen=True)
class Wanted:
    """A search. `text` is searched in names, cohorts, methods, tags and notes; each word must occur."""

    text: str = ""
    status: str = ""
    cohort: str = ""
    tag: str = ""
    archived: bool = False
    sort: SortRuns = "began"
    down: bool = True
    page: int = 1


@dataclass(frozen=True)
class _Found:
    state: RunState
    row: Any
    method: str
    missing: list[str] = field(default_factory=list)
    sites: int = 0


@dataclass(frozen=True)
class RunLine:
    """A run in the list.

    Attributes
    ----------
    method
        Fusion, objective and rule.
    seconds
        From its beginning to its end, or until now.
    missing
        Sites that did not count in the last round.
    overall
        Scores of all its patients: test patients, or validation patients where it has none yet. Null until it is
        decided what may be shown.
    """

    run: RunState
    method: str
    seconds: float
    sites: int
    missing: list[str]
    patients: Patients
    overall: PatientScores | None
    tags: list[str]
    notes: str
    archived: bool


@dataclass(frozen=True)
class RunList:
    """A page of the list of runs.

    Attributes
    ----------
    found, total
        Runs that the search found, and all.
    unreadable
        Numbers of runs whose rows in the store are damaged.
    cohorts, tags
        Of all runs, for choices.
    """

    lines: list[RunLine]
    page: int
    pages: int
    found: int
    total: int
    archived: int
    unreadable: list[int]
    cohorts: list[str]
    tags: list[str]


def run_list(reader: Reader, wanted: Wanted, score: str = "auroc") -> RunList:
    """Return a page of the runs that are wanted."""
    with Session(reader.engine) as session:
        every, unreadable = _read(session)
        chosen = [one for one in every if _fits(one, wanted)]
        chosen.sort(key=lambda one: one.state.id, reverse=wanted.down)
        if wanted.sort == "score":  # the order must not reveal a score that may not be shown
            lines = [_line(reader, session, one) for one in chosen]
            lines.sort(key=lambda line: _score_key(line, score, wanted.down))
        else:
            chosen.sort(key=_KEYS[wanted.sort], reverse=wanted.down)
        pages = max(1, math.ceil(len(chosen) / PER_PAGE))
        page = min(max(wanted.page, 1), pages)
        part = slice((page - 1) * PER_PAGE, page * PER_PAGE)
        shown = lines[part] if wanted.sort == "score" else [_line(reader, session, one) for one in chosen[part]]
    return RunList(
        lines=shown,
        page=page,
        pages=pages,
        found=len(chosen),
        total=len(every) + len(unreadable),
        archived=sum(one.row.archived for one in every),
        unreadable=unreadable,
        cohorts=sorted({one.state.cohort for one in every}),
        tags=sorted({tag for one in every for tag in one.row.tags.split()}),
    )


_KEYS: dict[str, Callable[[_Found], Any]] = {
    "began": lambda one: one.state.began,
    "name": lambda one: one.state.name,
    "status": lambda one: one.state.status,
    "cohort": lambda one: one.state.cohort,
    "method": lambda one: one.method,
    "seed": lambda one: one.state.seed,
    "seconds": lambda one: _seconds(one.state),
    "missing": lambda one: len(one.missing),
}


def _score_key(line: RunLine, score: str, down: bool) -> tuple[bool, float]:
    found = getattr(line.overall, score) if line.overall else None
    return found is None, 0.0 if found is None else -found.value if down else found.value


def _read(session: Session) -> tuple[list[_Found], list[int]]:
    """Return every run that can be read, and the numbers of the others."""
    missing = _missing(session)
    of_run = select(Site.run_id, func.count().label("sites")).where(Site.name != TOGETHER).group_by(Site.run_id)
    sites = {row.run_id: row.sites for row in session.execute(of_run)}
    found, unreadable = [], []
    for row in session.execute(select(*_COLUMNS, cast(Run.config, Text).label("config_text"))):
        try:
            config = json.loads(row.config_text)
            state = read_state(row, 0)
            method = ", ".join(str(config[name]) for name in METHOD if name in config)
            found.append(_Found(state, row, method, missing.get(row.id, []), sites.get(row.id, 0)))
        except (ValidationError, ValueError, TypeError, LookupError):
            unreadable.append(row.id)
    return found, unreadable


def _missing(session: Session) -> dict[int, list[str]]:
    """Return the sites of each run that did not count in its last round."""
    absent = (
        select(Run.id, Site.name)
        .join(RoundSite, (RoundSite.run_id == Run.id) & (RoundSite.round == Run.round))
        .join(Site, (Site.run_id == Run.id) & (Site.number == RoundSite.site))
        .where(RoundSite.absent.is_not(None))
        .order_by(Site.name)
    )
    found: dict[int, list[str]] = {}
    for run_id, name in session.execute(absent):
        found.setdefault(run_id, []).append(name)
    return found


def _fits(one: _Found, wanted: Wanted) -> bool:
    state, row = one.state, one.row
    text = " ".join((state.name, state.cohort, one.method, row.tags, row.notes)).lower()
    return (
        bool(row.archived) == wanted.archived
        and (not wanted.status or state.status == wanted.status)
        and (not wanted.cohort or state.cohort == wanted.cohort)
        and (not wanted.tag or wanted.tag in row.tags.split())
        and all(word in text for word in wanted.text.lower().split())
    )


def _line(reader: Reader, session: Session, one: _Found) -> RunLine:
    state, row = one.state, one.row
    patients, overall = _overall(reader, session, state)
    return RunLine(
        run=state,
        method=one.method,
        seconds=_seconds(state),
        sites=one.sites,
        missing=one.missing,
        patients=patients,
        overall=overall,
        tags=row.tags.split(),
        notes=row.notes,
        archived=bool(row.archived),
    )


def _overall(reader: Reader, session: Session, state: RunState) -> tuple[Patients, PatientScores | None]:
    published = reader.published_soon(state.id, state.change)
    if published is None:
        return "test", None
    cells = Cells(session, state.id, None, published.of)
    return cells.patients, cells.merged()[ALL]


def _seconds(state: RunState) -> float:
    return max(0.0, (state.ended or time.time()) - state.began)
