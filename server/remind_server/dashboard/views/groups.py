"""The table of groups, worst first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.aggregates import by_class
from remind.metrics.scores import EVERY
from remind.outcomes.base import kind_of
from remind_server.dashboard.answers import NO_PATIENTS, Estimate, Patients, PatientScores
from remind_server.dashboard.combined import Combined, combined, is_ranked, merged_statistics
from remind_server.dashboard.published import SMALL, TAIL, Published, Shown
from remind_server.dashboard.reader import Reader
from remind_server.store.schema import ALL, Group, RoundGroup, Run

if TYPE_CHECKING:
    SortKey = str
else:
    SortKey = Literal[("log_loss", *(n for n in EVERY if n != "log_loss"), "n", "weight", "train_n", "name")]
LOOK_BACK = 5  # rounds that a displayed change spans
_DESCENDING = (*(name for name, score in EVERY.items() if score.lower_is_better), "n", "weight", "train_n")
_ShownRound = tuple[dict[int, RoundGroup], Shown]  # the groups of a round, and which of them are shown


@dataclass(frozen=True)
class GroupRow:
    """A group: current λ, R_k of the last round, scores, and the change of the sorted score over the last rounds.

    `ranked`: enough patients are shown, and enough of two classes among them, to call it the worst or the best
    (`metrics.aggregates`). The others are small: the page folds them into one row.
    """

    number: int
    name: str
    tail: bool
    train_n: int | None
    train_suppressed: bool
    weight: float | None
    risk: float | None
    scores: PatientScores
    change: float | None
    ranked: bool


@dataclass(frozen=True)
class GroupTable:
    """All groups, worst first; those that are not ranked follow after the others.

    `small` are the groups that are not ranked, together, and `tail` all tail groups; `change_rounds` is the number of
    rounds that `change` spans.
    """

    run: int
    patients: Patients
    by: SortKey
    change_of: str
    change_rounds: int
    rows: list[GroupRow]
    small: Combined
    tail: Combined

    @property
    def ranked(self) -> list[GroupRow]:
        """Return the rows of the ranked groups."""
        return [row for row in self.rows if row.ranked]

    @property
    def largest(self) -> list[GroupRow]:
        """Return the ranked rows, or all if none is ranked, those with the most patients first."""
        return sorted(self.ranked or self.rows, key=lambda row: (-(row.scores.n or 0), row.name))


def group_table(
    reader: Reader, run_id: int, by: SortKey = "log_loss", patients: Patients | None = None, reverse: bool = False
) -> GroupTable:
    """Return every group, worst first by `by`, or best first if `reverse`; groups without that number last."""
    with Session(reader.engine) as session:
        run = reader.run(session, run_id)
        cells = reader.cells(session, run_id, patients)
        back = min(LOOK_BACK, run.round - 1)
        change_of = by if by in EVERY else "log_loss"
        now, before = (_round(reader, session, run, r) for r in (run.round, run.round - back))
        found = session.scalars(select(Group).where(Group.run_id == run_id)).all()
        shown, merged = reader.published(session, run), cells.merged()
        statistics = merged_statistics(session, run_id, cells.patients)
        classes_of = {number: by_class(one) for number, one in statistics.items()}
        rows = [
            GroupRow(
                number=group.number,
                name=group.name,
                tail=group.tail,
                train_n=group.train_n if shown.trained(group.number) else None,
                train_suppressed=not shown.trained(group.number),
                weight=row.weight_after if (row := _trained(group, now[0], shown)) else None,
                risk=row.risk if row else None,
                scores=(found_of := merged.get(group.number, NO_PATIENTS)),
                change=_change(group.number, now, before, change_of) if back > 0 else None,
                ranked=is_ranked(found_of, classes_of.get(group.number) or _as_one(run, found_of)),
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
        rows=sorted(rows, key=worst_first(by, reverse)),
        small=combined(statistics, small, SMALL, cells.shown, classes, len(small)),
        tail=combined(statistics, tail, TAIL, cells.shown, classes, len(tail)),
    )


def _as_one(run: Run, measured: PatientScores) -> list[int]:
    """Return the patients of a group as one number where the outcome has no sides, and nothing else is known."""
    return [] if kind_of(run.outcome).sides or measured.n is None else [measured.n]


def _trained(group: Group, rows: Mapping[int, RoundGroup], shown: Published) -> RoundGroup | None:
    """Return λ and R_k of a group if they may be shown: λ can start at the group's share and follows its R_k."""
    return rows.get(group.number) if shown.trained(group.number) else None


def _round(reader: Reader, session: Session, run: Run, round_: int) -> _ShownRound:
    where = (RoundGroup.run_id == run.id, RoundGroup.round == round_)
    rows = {row.group: row for row in session.scalars(select(RoundGroup).where(*where))}
    return rows, reader.published(session, run).validation(round_)


def _change(group: int, now: _ShownRound, before: _ShownRound, score: str) -> float | None:
    new, old = (
        getattr(rows[group], score) if group in rows and shown.score(ALL, group) else None
        for rows, shown in (now, before)
    )
    return None if new is None or old is None else float(new - old)


def worst_first(by: SortKey, reverse: bool = False) -> Callable[[GroupRow], Any]:
    """Return a sorting key: the worst first by `by`, or the best if `reverse`; groups without this number last."""

    def key(row: GroupRow) -> tuple[bool, bool, float, Sequence[int]]:
        letters = [-ord(letter) for letter in row.name] + [1] if reverse else [ord(letter) for letter in row.name]
        if by == "name":
            return False, False, 0.0, letters
        few = by in EVERY and not row.ranked  # too few to rank: shown, but never as the worst
        value = getattr(row, by) if by in ("weight", "train_n") else getattr(row.scores, by)
        number = value.value if isinstance(value, Estimate) else value
        if number is None:
            return few, True, 0.0, letters
        return few, False, -number if (by in _DESCENDING) != reverse else number, letters

    return key
