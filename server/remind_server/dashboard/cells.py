"""The cells of one run and kind of patients, as they may be shown: read as little as a view needs."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.scores import WITH_INTERVAL, WITHOUT_INTERVAL
from remind_server.dashboard.answers import Estimate, Measured, Patients, ScoreName
from remind_server.dashboard.suppression import Hidden, hide
from remind_server.store.schema import ALL, SCORED, Cell

Key = tuple[int, int]  # site, group
_COLUMNS = [Cell.site, Cell.group, *(getattr(Cell, name) for name in SCORED)]


class Cells:
    """Cells of a run: of test patients where there are any, unless told otherwise."""

    def __init__(self, session: Session, run_id: int, patients: Patients | None, min_count: int) -> None:
        self.session, self.run_id, self.min_count = session, run_id, min_count
        of_test = select(Cell.site).where(Cell.run_id == run_id, Cell.patients == "test").limit(1)
        self.patients: Patients = patients or ("test" if session.scalar(of_test) is not None else "validation")
        self._mine = (Cell.run_id == run_id, Cell.patients == self.patients)

    @cached_property
    def hidden(self) -> Hidden:
        """Cells that are suppressed; takes the counts of all."""
        if self.min_count <= 1:
            return hide({}, 0)
        counts = self.session.execute(select(Cell.site, Cell.group, Cell.n).where(*self._mine))
        return hide({(site, group): n for site, group, n in counts}, self.min_count)

    def merged(self) -> dict[int, Measured]:
        """Scores of each group over all sites; `ALL` is everyone."""
        rows = self.session.execute(select(*_COLUMNS).where(*self._mine, Cell.site == ALL))
        found = {row.group: self._shown(row) for row in rows}
        return found if ALL in found else found | {ALL: Measured(n=0)}

    def every(self) -> Iterator[tuple[Key, Measured]]:
        """All cells, margins included."""
        for row in self.session.execute(select(*_COLUMNS).where(*self._mine)):
            yield (row.site, row.group), self._shown(row)

    def values(self, score: ScoreName) -> dict[Key, tuple[int, float | None] | None]:
        """Patients and one score of each cell; None where it is suppressed."""
        rows = self.session.execute(select(Cell.site, Cell.group, Cell.n, getattr(Cell, score)).where(*self._mine))
        hidden = self.hidden.cells
        return {(s, g): None if (s, g) in hidden else (n, value) for s, g, n, value in rows}

    def _shown(self, row: Any) -> Measured:
        if (row.site, row.group) in self.hidden:
            return Measured(n=None, suppressed=True)
        values: dict[str, Any] = {name: _estimate(row, name) for name in WITH_INTERVAL}
        values |= {name: getattr(row, name) for name in WITHOUT_INTERVAL}
        return Measured(
            n=row.n,
            positives=self._positives(row),
            auroc_bound=row.auroc_bound,
            gate_open=row.gate_open,
            **values,
        )

    def _positives(self, row: Any) -> int | None:
        """None, too, where they or the others are too few to be shown."""
        positives: int | None = row.positives
        if positives is None or self.min_count <= 1:
            return positives
        return positives if self.min_count <= positives <= row.n - self.min_count else None


def _estimate(row: Any, name: str) -> Estimate | None:
    value = getattr(row, name)
    return None if value is None else Estimate(value, getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
