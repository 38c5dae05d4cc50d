"""The expert map: the weight of each expert in each group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.scores import experts_in_effect
from remind_server.dashboard.answers import NO_PATIENTS, Patients, PatientScores
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import GroupTable
from remind_server.store.schema import ALL, ExpertUse


@dataclass(frozen=True)
class ExpertRow:
    """Mean weight of each expert over a group's patients, 0 … 1; null if withheld or not measured.

    `in_effect` is the effective number of experts: exp of the entropy of the weights.
    """

    name: str
    tail: bool
    n: int | None
    suppressed: bool
    withheld: bool
    in_effect: float | None
    use: list[float] | None


@dataclass(frozen=True)
class ExpertMap:
    """Groups × experts; the first row is all groups together. No rows if the model has or uses no experts yet."""

    run: int
    patients: Patients
    experts: int
    rows: list[ExpertRow]


def expert_map(reader: Reader, table: GroupTable) -> ExpertMap:
    """Return the map of the table's groups; a row is withheld if the group's scores are."""
    with Session(reader.engine) as session:
        where = (ExpertUse.run_id == table.run, ExpertUse.patients == table.patients)
        use_of = {row.group: row.use for row in session.scalars(select(ExpertUse).where(*where))}
        overall = reader.cells(session, table.run, table.patients).merged()[ALL] if use_of else NO_PATIENTS
    if not use_of:
        return ExpertMap(table.run, table.patients, 0, [])
    rows = [_row("all groups", False, overall, use_of.get(ALL))]
    rows += [_row(row.name, row.tail, row.scores, use_of.get(row.number)) for row in table.rows]
    return ExpertMap(table.run, table.patients, max(map(len, use_of.values())), rows)


def _row(name: str, tail: bool, scores: PatientScores, use: Sequence[float] | None) -> ExpertRow:
    if scores.withheld:
        return ExpertRow(name, tail, scores.n, scores.suppressed, True, None, None)
    in_effect = None if use is None else experts_in_effect(np.array(use))
    return ExpertRow(name, tail, scores.n, False, False, in_effect, None if use is None else list(use))
