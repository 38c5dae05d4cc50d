"""Series over the rounds, the groups × sites matrix, and two runs side by side."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.scores import SCORES
from remind_server.dashboard.answers import (
    Comparison,
    Curve,
    Curves,
    GroupTable,
    Matrix,
    Measured,
    Pair,
    Patients,
    ScoreName,
)
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.suppression import NOTHING_HIDDEN, Hidden, hide_line
from remind_server.store.schema import ALL, Group, Round, RoundGroup, Site

MOST_CURVES = 50  # groups in one answer, which keeps it well below a megabyte for hundreds of rounds
_SERIES = ("weight", "risk", "gate_open", "n", *SCORES)
_OF_TRAINING = ("weight", "risk")


def curves(reader: Reader, run_id: int, numbers: Iterable[int]) -> Curves:
    """Curves of these groups (at most `MOST_CURVES`) and of all together, and what each round took."""
    wanted = [ALL, *sorted(set(numbers) - {ALL})[:MOST_CURVES]]
    with Session(reader.engine) as session:
        reader.run(session, run_id)
        rounds = session.scalars(select(Round).where(Round.run_id == run_id).order_by(Round.round)).all()
        groups = {g.number: g for g in session.scalars(select(Group).where(Group.run_id == run_id))}
        columns = [RoundGroup.group, RoundGroup.round, *(getattr(RoundGroup, name) for name in _SERIES)]
        where = (RoundGroup.run_id == run_id, RoundGroup.group.in_(wanted))
        values = {(int(row[0]), int(row[1])): list(row[2:]) for row in session.execute(select(*columns).where(*where))}
        hidden_in = _hidden_by_round(session, reader, run_id)
    few = reader.hidden_training(list(groups.values()))
    order = [round_.round for round_ in rounds]
    return Curves(
        run=run_id,
        round=order,
        stage=[round_.stage for round_ in rounds],
        seconds=[round(round_.seconds, 3) for round_ in rounds],
        bytes_down=[round_.bytes_down for round_ in rounds],
        bytes_up=[round_.bytes_up for round_ in rounds],
        curves=[
            _curve(k, groups[k].name if k else "all groups", order, values, hidden_in, (ALL, k) in few)
            for k in wanted
            if k == ALL or k in groups
        ],
    )


def matrix(reader: Reader, table: GroupTable, score: ScoreName, most: int | None = None) -> Matrix:
    """One score of the table's `most` first groups (None: all) at each site that takes part."""
    rows, run_id = table.rows[:most], table.run
    with Session(reader.engine) as session:
        values = reader.cells(session, run_id, table.patients).values(score)
        sites = session.scalars(select(Site).where(Site.run_id == run_id, Site.refused.is_(None))).all()
    sites = sorted(sites, key=lambda site: site.name)
    grid = [[values.get((site.number, row.number), (0, None)) for site in sites] for row in rows]
    return Matrix(
        run=run_id,
        patients=table.patients,
        score=score,
        sites=[site.name for site in sites],
        groups=[row.name for row in rows],
        tail=[row.tail for row in rows],
        n=[[cell[0] if cell else None for cell in line] for line in grid],
        value=[[_short(cell[1]) if cell else None for cell in line] for line in grid],
        suppressed=[(i, j) for i, line in enumerate(grid) for j, cell in enumerate(line) if cell is None],
    )


def comparison(
    reader: Reader, first: int, second: int, score: ScoreName, patients: Patients | None = None
) -> Comparison:
    """Two runs side by side: groups by name, those with the largest loss of `score` first."""
    reports = [reader.report(run_id, patients) for run_id in (first, second)]
    if reports[0].patients != reports[1].patients:  # one has test scores already: compare like with like
        reports = [reader.report(run_id, "validation") for run_id in (first, second)]
    tables = [reader.groups(report.run.id, "name", report.patients).rows for report in reports]
    by_name = [{row.name: row for row in rows} for rows in tables]
    pairs = []
    for name in sorted(by_name[0] | by_name[1]):
        rows = [found.get(name) for found in by_name]
        tail = any(row.tail for row in rows if row)
        pairs.append(_pair(name, tail, [row.scores if row else None for row in rows], score))
    pairs.sort(key=lambda pair: (pair.difference is None, pair.difference or 0.0, pair.name))
    a, b = (report.settings for report in reports)
    return Comparison(
        first=reports[0],
        second=reports[1],
        score=score,
        settings={k: (a.get(k), b.get(k)) for k in sorted(a | b) if a.get(k) != b.get(k) and k != "results"},
        overall=_pair("all groups", False, [report.overall for report in reports], score),
        groups=pairs,
    )


def _pair(name: str, tail: bool, both: Sequence[Measured | None], score: str) -> Pair:
    values = [_value(scores, score) if scores else None for scores in both]
    difference = values[1] - values[0] if values[0] is not None and values[1] is not None else None
    return Pair(name, tail, both[0], both[1], difference)


def _value(scores: Measured, score: str) -> float | None:
    estimate = getattr(scores, score)
    return None if estimate is None else float(estimate.value)


def _curve(
    number: int,
    name: str,
    order: Sequence[int],
    values: Mapping[tuple[int, int], Sequence[float | None]],
    hidden_in: dict[int, Hidden],
    few_train: bool,
) -> Curve:
    shown: dict[str, list[float | None]] = {series: [] for series in _SERIES}
    suppressed = []
    for position, round_ in enumerate(order):
        row = values.get((number, round_), (None,) * len(_SERIES))
        hidden = (ALL, number) in hidden_in.get(round_, NOTHING_HIDDEN)
        if hidden:
            suppressed.append(position)
        for series, value in zip(_SERIES, row, strict=True):
            hide_it = (few_train and series == "risk") if series in _OF_TRAINING else hidden
            shown[series].append(None if hide_it else _short(value))
    return Curve(number, name, **shown, suppressed=suppressed)  # type: ignore[arg-type]


def _hidden_by_round(session: Session, reader: Reader, run_id: int) -> dict[int, Hidden]:
    """What is suppressed in each round; needs every group of the round, since they add up to its margin."""
    if reader.min_count <= 1:
        return {}
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    columns = select(RoundGroup.round, RoundGroup.group, RoundGroup.n).where(RoundGroup.run_id == run_id)
    for round_, group, n in session.execute(columns):
        found[round_].append((group, n))
    return {round_: hide_line(line, reader.min_count) for round_, line in found.items()}


def _short(value: float | None) -> float | None:
    """Six significant digits, which is what a curve needs and keeps its JSON small; whole numbers stay whole."""
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")
