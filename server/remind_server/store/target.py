"""What the run store keeps of what is predicted; loads neither torch nor the readers of cohorts."""

from collections.abc import Sequence
from typing import Any

from remind.outcomes.base import Outcome

Row = dict[str, Any]


def target_content(outcome: Outcome, rows: Sequence[Row] = ()) -> Row | None:
    """Return what the run store keeps of what is predicted: the unit of a number, names of parts, scores of labels."""
    found: Row = {}
    if outcome.parts:
        found["parts"] = list(outcome.parts)
    if unit := outcome.spread[1]:
        found["unit"] = unit
    if rows:
        found["labels"] = list(rows)
    return found or None
