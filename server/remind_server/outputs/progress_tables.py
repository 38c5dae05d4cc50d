"""The tables of a run on the screen: their columns and cells, the names of groups, and the legend."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap

from remind import groups
from remind.metrics.score import Score
from remind.metrics.scores import EVERY, TIGHT
from remind_server.outputs.screen import Table
from remind_server.outputs.tables import ALL, WITHHELD, Row

MOST_LETTERS = 32  # letters of a group's name; if one is longer, all groups are written as dots
FIRST = (
    *("weighted_kappa", "auroc", "mae", "c_index", "dice", "hd95"),
    *("log_loss", "accuracy", "balanced_accuracy", "auprc"),
)
WIDTH = 118  # letters of a line of the legend
FIRST_COLUMNS = (
    "in the tables: λ: weight of the group in the objective, all sum to 1; risk: R, mean loss of the group's training "
    "patients;\n  Σλ·R: the objective; gate: share of its validation patients for whom the group's own routing Φ_k was "
    "used;"
)
MARKS = (
    "  *: tail, a group of less than "
    f"{groups.TAIL_SHARE:.0%} of the training patients; –: undefined; a round's table is of the model that the round "
    "received: that after the round before"
)


def columns(own: Mapping[str, Score]) -> tuple[str, ...]:
    """Return the heads of the columns of an outcome's scores."""
    return tuple(score.column for score in own.values())


def group_columns(own: Mapping[str, Score]) -> tuple[str, ...]:
    """Return the heads of a round's table of groups."""
    return ("group", "train n", "λ", "risk", "gate", "val n", *columns(own))


def final_table(own: Mapping[str, Score], cells: list[list[str]]) -> Table:
    """Return the table of the final scores."""
    return Table(("", "n", *columns(own)), cells, 2, [2 + i for i in by_use(own)], frozenset({0}))


def first_score(row: Row) -> str:
    """Return the most wanted score among those of a row."""
    return next(name for name in FIRST if name in row)


def by_use(own: Mapping[str, Score]) -> list[int]:
    """Return the positions of an outcome's scores, the most wanted first."""
    names = list(own)
    return [names.index(name) for name in dict.fromkeys([*(n for n in FIRST if n in names), *names])]


def legend(own: Mapping[str, Score]) -> str:
    """Return what the columns of the tables mean, those of an outcome's scores in the words of the registry."""
    means = "; ".join(f"{score.column}: {score.meaning}" for score in own.values())
    lines = wrap(f"{means};", WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join([FIRST_COLUMNS, *lines, MARKS])


def named(mask: int, among: Iterable[int], names: Sequence[str]) -> str:
    """Return a group's name, or its dots if a name in the table is too long for a line."""
    return groups.dots(mask, len(names)) if dotted(among, names) else groups.label(mask, names)


def dotted(among: Iterable[int], names: Sequence[str]) -> bool:
    """Return whether a table of these groups writes them as dots."""
    return any(len(groups.label(mask, names)) > MOST_LETTERS for mask in among)


def others(number: int) -> str:
    """Return the name of the row of all groups that have none of their own."""
    return f"{number} other groups" if number > 1 else "1 other group"


def group_cells(row: Row, name: str) -> list[str]:
    """Return the cells of one group in a round's table."""
    v = row["validation"]
    return [
        name + "*" * row["tail"],
        str(row["train_n"]),
        number(row["lambda"]),
        number(row["risk"]),
        number(row["gate_open"], 2),
        WITHHELD if row["withheld"] and not v["n"] else str(v["n"]),
        *score_cells(v),
    ]


def whole_cells(name: str, train_n: int, measured: Row) -> list[str]:
    """Return the cells of several groups together, which have no λ, no risk and no gate."""
    return [name, str(train_n), "", "", "", str(measured["n"]), *score_cells(measured)]


def final_cells(row: Row, name: str) -> list[str]:
    """Return the cells of a row of the final table."""
    marks = "*" * bool(row["tail"]) + "°" * (row["ranked"] is False) if row["site"] == ALL else ""
    return [name + marks, WITHHELD if row["n"] is None else str(row["n"]), *score_cells(row)]


def score_cells(row: Row) -> list[str]:
    """Return a cell per score, with its bound if that exceeds `TIGHT`."""
    cells = {name: number(row[name]) for name in EVERY if name in row}
    for name in cells:
        if (bound := row.get(f"{name}_bound")) is not None and bound > TIGHT:
            cells[name] += f"±{number(bound)}"
    return list(cells.values())


def counted(mean: Row, what: str) -> str:
    """Return how many of all groups a mean covers: of AUROCs, or of the first score of another outcome."""
    return f"mean over {mean['averaged'][first_score(mean)]} of {mean['of']} {what}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a score as text; a dash if it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"
