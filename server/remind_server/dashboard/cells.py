"""The publishable cells of one run and one kind of patients; reads only the rows that a view needs."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from remind.metrics.scores import BOUNDS, WITH_INTERVAL, WITHOUT_INTERVAL
from remind_server.dashboard.answers import Estimate, Patients, PatientScores, ScoreName
from remind_server.dashboard.published import Shown
from remind_server.store.schema import ALL, EVERY_SCORED, Cell, SiteCounts

Key = tuple[int, int]  # site, group
_COLUMNS = [Cell.site, Cell.group, Cell.withheld, *(getattr(Cell, name) for name in EVERY_SCORED)]


class Cells:
    """Cells of a run; by default those of test patients if there are any."""

    def __init__(
        self, session: Session, run_id: int, patients: Patients | None, shown_of: Callable[[str], Shown]
    ) -> None:
        self.session, self.run_id = session, run_id
        of_test = select(Cell.site).where(Cell.run_id == run_id, Cell.patients == "test").limit(1)
        self.patients: Patients = patients or ("test" if session.scalar(of_test) is not None else "validation")
        self._mine = (Cell.run_id == run_id, Cell.patients == self.patients)
        self.shown = shown_of(self.patients)

    def merged(self) -> dict[int, PatientScores]:
        """Return the scores of each group over all sites; `ALL` stands for all patients."""
        rows = self.session.execute(select(*_COLUMNS).where(*self._mine, Cell.site == ALL))
        found = {row.group: self._shown(row) for row in rows}
        return found if ALL in found else found | {ALL: PatientScores(n=0)}

    def of_sites(self) -> dict[int, PatientScores]:
        """Return the scores of each site over all groups."""
        rows = self.session.execute(select(*_COLUMNS).where(*self._mine, Cell.group == ALL, Cell.site != ALL))
        return {row.site: self._shown(row) for row in rows}

    def absent(self, sites: Iterable[int]) -> set[int]:
        """Return those of these sites whose answers did not count when the model was evaluated.

        This is unknown for an imported run; then none is returned.
        """
        where = (SiteCounts.run_id == self.run_id, SiteCounts.patients == self.patients)
        last = select(func.max(SiteCounts.round)).where(*where).scalar_subquery()
        there = set(self.session.scalars(select(SiteCounts.site).where(*where, SiteCounts.round == last)))
        return set(sites) - there if there else set()

    def every(self) -> Iterator[tuple[Key, PatientScores]]:
        """Return all cells, including the margins."""
        for row in self.session.execute(select(*_COLUMNS).where(*self._mine)):
            yield (row.site, row.group), self._shown(row)

    def values(self, score: ScoreName) -> dict[Key, tuple[int | None, float | None, float | None, float | None]]:
        """Return the number of patients of each cell, one score and its interval; hidden values are None."""
        names = (score, f"{score}_low", f"{score}_high")
        columns = (Cell.site, Cell.group, Cell.n, Cell.withheld, *(getattr(Cell, name) for name in names))
        shown = self.shown
        return {
            (s, g): (
                n if (n and shown.number(s, g)) or not (n or withheld) else None,
                *(found if shown.score(s, g) else (None, None, None)),
            )
            for s, g, n, withheld, *found in self.session.execute(select(*columns).where(*self._mine))
        }

    def withheld(self, site: int, group: int) -> bool:
        """Return whether a cell with patients has hidden scores."""
        return not self.shown.score(site, group)

    def _shown(self, row: Any) -> PatientScores:
        if not row.n and not row.withheld:
            return PatientScores(n=0)
        if not row.n or not self.shown.score(row.site, row.group):
            number = row.n if row.n and self.shown.number(row.site, row.group) else None
            return PatientScores(n=number, suppressed=number is None, withheld=True, sites_withholding=row.withheld)
        values: dict[str, Any] = {name: _estimate(row, name) for name in WITH_INTERVAL}
        values |= {name: getattr(row, name) for name in (*WITHOUT_INTERVAL, *BOUNDS)}
        return PatientScores(
            n=row.n,
            positives=row.positives,
            gate_open=row.gate_open,
            sites_withholding=row.withheld,
            **values,
        )


def _estimate(row: Any, name: str) -> Estimate | None:
    value = getattr(row, name)
    return None if value is None else Estimate(value, getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
