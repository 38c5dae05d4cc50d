"""One score of each group at each site."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.secagg.limits import TOGETHER
from remind_server.dashboard.answers import Counts, Numbers, Patients, ScoreName
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.curves import rounded
from remind_server.dashboard.views.groups import GroupTable
from remind_server.store.schema import Site


@dataclass(frozen=True)
class Matrix:
    """One score of each group (rows, worst first) at each site (columns): n[g][s], value[g][s] and its 95 % interval.

    Null if the site has no such patients (n is 0), if the score is undefined, or if the number or the score is hidden:
    such cells are listed as [g, s] in `suppressed` (number and score hidden) and `withheld` (score hidden). A null n
    that is not listed: the site did not count when the others were measured.
    """

    run: int
    patients: Patients
    score: str
    sites: list[str]
    groups: list[str]
    tail: list[bool]
    n: list[Counts]
    value: list[Numbers]
    low: list[Numbers]
    high: list[Numbers]
    suppressed: list[tuple[int, int]]
    withheld: list[tuple[int, int]]


def matrix(reader: Reader, table: GroupTable, score: ScoreName) -> Matrix:
    """Return one score of the table's groups at each participating site."""
    rows, run_id = table.rows, table.run
    with Session(reader.engine) as session:
        cells = reader.cells(session, run_id, table.patients)
        values = cells.values(score)
        where = (Site.run_id == run_id, Site.refused.is_(None), Site.name != TOGETHER)
        sites = session.scalars(select(Site).where(*where)).all()
        absent = cells.absent(site.number for site in sites)
    sites = sorted(sites, key=lambda site: site.name)
    keys = [[(site.number, row.number) for site in sites] for row in rows]
    nobody = [(None if site.number in absent else 0, None, None, None) for site in sites]
    grid = [[values.get(key, nobody[j]) for j, key in enumerate(line)] for line in keys]
    there = [(i, j) for i, line in enumerate(keys) for j, key in enumerate(line) if key in values]
    places = [(i, j) for i, j in there if grid[i][j][0] != 0]
    return Matrix(
        run=run_id,
        patients=table.patients,
        score=score,
        sites=[site.name for site in sites],
        groups=[row.name for row in rows],
        tail=[row.tail for row in rows],
        n=[[cell[0] for cell in line] for line in grid],
        value=[[rounded(cell[1]) for cell in line] for line in grid],
        low=[[rounded(cell[2]) for cell in line] for line in grid],
        high=[[rounded(cell[3]) for cell in line] for line in grid],
        suppressed=[(i, j) for i, j in places if grid[i][j][0] is None],
        withheld=[(i, j) for i, j in places if grid[i][j][0] is None or cells.withheld(*keys[i][j])],
    )
