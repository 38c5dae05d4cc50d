"""Scores of each label of a run, as its page may show them."""

from typing import Any

from sqlalchemy.orm import Session

from remind_server.dashboard.reader import Reader

Row = dict[str, Any]


def labels(reader: Reader, run_id: int) -> list[Row]:
    """Return a row per label; without counts and scores where the label holds, or does not hold, of too few patients.

    The number of patients of whom a label is known is that of all hospitals, as in the margin of the table of groups.
    """
    with Session(reader.engine) as session:
        content = reader.run(session, run_id).target or {}
    rows = content.get("labels", [])
    return [_shown(dict(row), reader.min_count) for row in rows] if isinstance(rows, list) else []


def _shown(row: Row, least: int) -> Row:
    few = 0 < min(row["positives"], row["n"] - row["positives"]) < least
    hidden = [key for key in row if key not in ("label", "n")] if few else []
    return row | dict.fromkeys(hidden)
