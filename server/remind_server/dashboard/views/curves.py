"""Series over the rounds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import SerializerFunctionWrapHandler, model_serializer
from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.score import extended
from remind.metrics.scores import EVERY
from remind_server.dashboard.answers import OTHERS, Counts, Numbers, without_others
from remind_server.dashboard.published import Published
from remind_server.dashboard.reader import Reader
from remind_server.store.schema import ALL, Group, Round, RoundGroup

MOST_CURVES = 36  # groups in one answer, which keeps it well below a megabyte for hundreds of rounds
_SERIES = ("weight", "risk", "gate_open", "n", *EVERY)
_READ = (*_SERIES, "withheld")
_OF_TRAINING = ("weight", "risk")


@dataclass(frozen=True)
class Curve:
    """One group over the rounds; number 0 is all groups together. Scores are of validation patients."""

    number: int
    name: str
    weight: Numbers
    risk: Numbers
    gate_open: Numbers
    n: Counts
    suppressed: list[int] = field(default_factory=list)
    withheld: list[int] = field(default_factory=list)

    @model_serializer(mode="wrap")
    def _without_others(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # else no schema
        """Leave out scores of other outcomes."""
        return without_others(handler(self))


Curve = extended(Curve, dict.fromkeys(EVERY, (Numbers, list)))  # type: ignore[misc]


@dataclass(frozen=True)
class Curves:
    """Columns over the finished rounds; a curve lists the positions whose number or scores are hidden."""

    run: int
    round: list[int]
    stage: list[int]
    seconds: list[float]
    bytes_down: list[int]
    bytes_up: list[int]
    effective_sites: Numbers
    sampling_error: Numbers
    curves: list[Curve]


def curves(reader: Reader, run_id: int, numbers: Iterable[int]) -> Curves:
    """Return curves of these groups (at most `MOST_CURVES`) and of all together, and the cost of each round."""
    wanted = [ALL, *sorted(set(numbers) - {ALL})[:MOST_CURVES]]
    with Session(reader.engine) as session:
        run = reader.run(session, run_id)
        shown, not_own = reader.published(session, run), OTHERS - reader.scores(run_id).keys()
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
        effective_sites=[round_.effective_sites for round_ in rounds],
        sampling_error=[round_.sampling_error for round_ in rounds],
        curves=[
            _curve(k, groups[k].name if k else "all groups", order, values, shown, not_own)
            for k in wanted
            if k == ALL or k in groups
        ],
    )


def _curve(
    number: int,
    name: str,
    order: Sequence[int],
    values: Mapping[tuple[int, int], Sequence[float | None]],
    published: Published,
    not_own: frozenset[str],
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
            found[series].append(rounded(value) if may else None)
    for series in not_own & found.keys():
        found[series] = []
    return Curve(number, name, **found, suppressed=suppressed, withheld=withheld)  # type: ignore[arg-type]


def rounded(value: float | None) -> float | None:
    """Round to six significant digits, enough for a curve, so that its JSON is small; integers stay integers."""
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")
