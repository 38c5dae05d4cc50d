"""The rows of one run in the store: its sites and groups by number, and what is written of them."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from remind import groups
from remind.metrics.aggregates import by_class
from remind.metrics.statistics import GroupStatistics
from remind_server.store.rows import cell_rows, expert_rows, merged_rows
from remind_server.store.schema import (
    LOST,
    RUNNING,
    WAITING,
    Cell,
    ExpertUse,
    Group,
    MergedStatistics,
    Run,
    Site,
    SiteCounts,
    lost,
)


@dataclass
class RunRows:
    """The rows of one run.

    Attributes
    ----------
    run_id
        Number of the run.
    modalities
        Names of the modalities of the schema.
    site_number, group_number
        Site → number; group → number.
    """

    run_id: int = 0
    modalities: tuple[str, ...] = ()
    site_number: dict[str, int] = field(default_factory=dict)
    group_number: dict[int, int] = field(default_factory=dict)
    _counted: dict[tuple[str, str], dict[str, list[int]]] = field(default_factory=dict)  # counts as last written

    def remember(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        groups_here = {str(mask): number for mask, number in self.group_number.items()}
        return {"run": self.run_id, "sites": self.site_number, "groups": groups_here}

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Restore the numbers that `remember` returned."""
        self.run_id, self.site_number = memory["run"], dict(memory["sites"])
        self.group_number = {int(mask): number for mask, number in memory["groups"].items()}

    def enter_sites(self, session: Session, sites: Mapping[str, Mapping[int, int]], refused: Mapping[str, str]) -> None:
        """Add sites not seen before; note who is refused now."""
        for name in (*sites, *refused):
            known = name in self.site_number
            number = self.site_number.setdefault(name, len(self.site_number) + 1)
            train_n = sum(sites.get(name, {}).values())
            site = session.get(Site, (self.run_id, number)) if known else None
            if site is None:
                site = Site(run_id=self.run_id, number=number, name=name, train_n=0, asked=False)
                session.add(site)
            site.train_n = train_n or site.train_n
            if sites.get(name) or name in refused:
                site.refused = None if name in sites else refused[name]

    def enter_groups(self, session: Session, counts: Mapping[int, int]) -> None:
        """Add groups not seen before; bring counts and the tail up to date."""
        for mask in counts:
            self.group_number.setdefault(mask, len(self.group_number) + 1)
        tail = groups.tail(counts)  # a group first seen without a count has no training patients: it is tail
        known = {group.mask: group for group in session.scalars(select(Group).where(Group.run_id == self.run_id))}
        for mask, count in counts.items():
            if mask not in known:
                row = Group(
                    run_id=self.run_id,
                    number=self.group_number[mask],
                    mask=mask,
                    name=groups.name(mask, self.modalities),
                )
                row.train_n, row.tail = count, mask in tail
                session.add(row)
            elif count:
                known[mask].train_n, known[mask].tail = count, mask in tail

    def enter_counts(
        self, session: Session, patients: str, round_: int, by_site: Mapping[str, Mapping[int, GroupStatistics]]
    ) -> None:
        """Write which sites' patients were evaluated, and their counts by class if these are new."""
        for name, found in by_site.items():
            counts = {str(self.group_number[mask]): by_class(one) for mask, one in found.items()}
            row = SiteCounts(run_id=self.run_id, patients=patients, round=round_, site=self.site_number[name])
            row.counts = None if self._counted.get((patients, name)) == counts else counts
            self._counted[patients, name] = counts
            session.merge(row)

    def replace_cells(
        self,
        session: Session,
        patients: str,
        by_site: Mapping[str, Mapping[int, Any]],
        withheld: Mapping[str, Collection[int]],
    ) -> None:
        """Replace the scores of all sites and groups for one part of the split."""
        session.execute(delete(Cell).where(Cell.run_id == self.run_id, Cell.patients == patients))
        rows: Iterable[dict[str, Any]] = cell_rows(
            self.run_id, patients, by_site, self.site_number, self.group_number, withheld
        )
        session.execute(insert(Cell), list(rows))
        session.execute(
            delete(MergedStatistics).where(
                MergedStatistics.run_id == self.run_id, MergedStatistics.patients == patients
            )
        )
        if merged := merged_rows(self.run_id, patients, by_site, self.group_number):
            session.execute(insert(MergedStatistics), merged)
        session.execute(delete(ExpertUse).where(ExpertUse.run_id == self.run_id, ExpertUse.patients == patients))
        if experts := expert_rows(self.run_id, patients, by_site, self.group_number):
            session.execute(insert(ExpertUse), experts)

    def change(self, session: Session, **values: Any) -> None:
        """Change columns of the run, and count the change: a page asks for what is newer than it shows."""
        session.execute(
            update(Run).where(Run.id == self.run_id).values(change=Run.change + 1, heard=time.time(), **values)
        )


def end_lost_runs(session: Session) -> None:
    """Mark runs whose process is gone as ended; they cannot do so themselves."""
    silent = (Run.status.in_((WAITING, RUNNING)), Run.heard < time.time() - LOST)
    for run in session.scalars(select(Run).where(*silent)):
        for name, value in lost(run.heard).items():
            setattr(run, name, value)
        run.change += 1
