"""A list that a user gives an importer: a .csv with named columns, such as that of --items."""

import csv
from collections.abc import Sequence
from pathlib import Path

from remind.data.cohort.problems import Problem, suggest
from remind.errors import several

Row = dict[str, str | None]


def read_list(
    path: Path, option: str, columns: Sequence[str], needed: Sequence[str], one: str, problems: list[Problem]
) -> list[tuple[int, Row]]:
    """Read the rows, each with its line in the file; none if there are problems, which are added to `problems`.

    Parameters
    ----------
    option
        Option of the command that names the file.
    columns, needed
        Columns that the file may have, and those that it must have.
    one
        What a row is about, for the message about a file without rows.

    Raises
    ------
    UserError
        The file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            names, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        problem = Problem(str(path), f"cannot be read: {why}", f"name a .csv file, UTF-8, with {option}")
        raise several(option, [str(problem)]) from None
    unknown = [name for name in names if name not in columns]
    problems += [Problem(path.name, "no such column", suggest(name, columns), column=name) for name in unknown]
    problems += [Problem(path.name, "no such column", "add it", column=c) for c in needed if c not in names]
    if problems:
        return []
    if not rows:
        problems.append(Problem(path.name, "has no rows", f"put one row per {one}"))
    return list(enumerate(rows, start=2))
