"""Series over the rounds, and the groups × sites matrix."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.scores import SCORES
from remind_server.dashboard.answers import (
    Curve,
    Curves,
    GroupTable,
    Matrix,
    ScoreName,
)
from remind_server.dashboard.published import Published
from remind_server.dashboard.reader import Reader
from remind_server.store.schema import ALL, Group, Round, RoundGroup, Site

MOST_CURVES = 36  # groups in one answer, which keeps it well below a megabyte for hundreds of rounds
_SERIES = ("weight", "risk", "gate_open", "n", *SCORES)
_READ = (*_SERIES, "withheld")
_OF_TRAINING = ("weight", "risk")


def curves(reader: Reader, run_id: int, numbers: Iterable[int]) -> Curves:
    """Return curves of these groups (at most `MOST_CURVES`) and of all together, and the cost of each round."""
    wanted = [ALL, *sorted(set(numbers) - {ALL})[:MOST_CURVES]]
    with Session(reader.engine) as session:
        shown = reader.published(session, reader.run(session, run_id))
        rounds = session.scalars(select(Round).where(Round.run_id == run_id).order_by(Round.round)).all()
        groups = {g.number: g for g in session.scalars(select(Group).where(Group.run_id == run_id))}
        columns = [RoundGroup.group, RoundGroup.round, *(getattr(RoundGroup, name) for name in _READ)]
        where = (RoundGroup.run_id == run_id, RoundGroup.group.in_(wanted))
        values = {(int(row[0]), int(row[1])): list(row[2:]) for row in session.execute(select(*columns).where(*where))}
    order = [round_.round for round_ in rounds]
    return Curves(
        run=run_id,
        round=order,
        stage=[round_.stage for round_ in rounds],
        seconds=[round(round_.seconds, 3) for round_ in rounds],
        bytes_down=[round_.bytes_down for round_ in rounds],
        bytes_up=[round_.bytes_up for round_ in rounds],
        curves=[
            _curve(k, groups[k].name if k else "all groups", order, values, shown)
            for k in wanted
            if k == ALL or k in groups
        ],
    )


def matrix(reader: Reader, table: GroupTable, score: ScoreName) -> Matrix:
    """Return one score of the table's groups at each participating site."""
    rows, run_id = table.rows, table.run
    with Session(reader.engine) as session:
        cells = reader.cells(session, run_id, table.patients)
        values = cells.values(score)
        sites = session.scalars(select(Site).where(Site.run_id == run_id, Site.refused.is_(None))).all()
    sites = sorted(sites, key=lambda site: site.name)
    keys = [[(site.number, row.number) for site in sites] for row in rows]
    grid = [[values.get(key, (0, None, None, None)) for key in line] for line in keys]
    places = [(i, j) for i, line in enumerate(keys) for j, key in enumerate(line) if grid[i][j][0] != 0]
    return Matrix(
        run=run_id,
        patients=table.patients,
        score=score,
        sites=[site.name for site in sites],
        groups=[row.name for row in rows],
        tail=[row.tail for row in rows],
        n=[[cell[0] for cell in line] for line in grid],
        value=[[_short(cell[1]) for cell in line] for line in grid],
        low=[[_short(cell[2]) for cell in line] for line in grid],
        high=[[_short(cell[3]) for cell in line] for line in grid],
        suppressed=[(i, j) for i, j in places if grid[i][j][0] is None],
        withheld=[(i, j) for i, j in places if grid[i][j][0] is None or cells.withheld(*keys[i][j])],
    )


def _curve(
    number: int,
    name: str,
    order: Sequence[int],
    values: Mapping[tuple[int, int], Sequence[float | None]],
    published: Published,
) -> Curve:
    found: dict[str, list[float | None]] = {series: [] for series in _SERIES}
    suppressed, withheld = [], []
    trained = number == ALL or published.trained(number)
    for position, round_ in enumerate(order):
        row = dict(zip(_READ, values.get((number, round_), (None,) * len(_READ)), strict=True))
        shown = published.validation(round_)
        silent = bool(row.pop("withheld")) and not row["n"]  # every site withholds
        few = silent or (bool(row["n"]) and not shown.number(ALL, number))
        scored = not silent and shown.score(ALL, number)
        if few:
            suppressed.append(position)
        if silent or (row["n"] and not scored):
            withheld.append(position)
        for series, value in row.items():
            may = trained if series in _OF_TRAINING else not few if series == "n" else scored
            found[series].append(_short(value) if may else None)
    return Curve(number, name, **found, suppressed=suppressed, withheld=withheld)  # type: ignore[arg-type]


def _short(value: float | None) -> float | None:
    """Round to six significant digits, enough for a curve, so that its JSON is small; integers stay integers."""
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")
