"""Totals of what patients have spent of their privacy, and the check of limits.

The parts of a split have different patients. Within a run, the part that has spent most therefore counts. Over all
runs, each run counts with that part, because another run may split the patients differently.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from remind.privacy.accounting import Curve, epsilon, zero_curve
from remind_client.ledger.budget import SLACK, BudgetError, Limit


@dataclass(frozen=True)
class Total:
    """A total of spends: a curve, and the δ of thresholds."""

    curve: Curve
    delta: float

    def __add__(self, other: "Total") -> "Total":
        return Total(self.curve + other.curve, self.delta + other.delta)

    def __or__(self, other: "Total") -> "Total":
        """Return an upper bound of both totals, for patients who have spent one of the two."""
        return Total(np.maximum(self.curve, other.curve), max(self.delta, other.delta))

    def epsilon(self, delta: float) -> float:
        """Return ε at this δ minus the δ of thresholds; infinite if nothing of δ is left."""
        left = delta - self.delta
        return epsilon(self.curve, left) if left > 0 else float("inf")


NOTHING = Total(zero_curve(), 0.0)


def upper_bound(parts: Iterable[Total]) -> Total:
    """Return an upper bound of what a patient of any of these parts has spent."""
    found = NOTHING
    for total in parts:
        found |= total
    return found


def lifetime_total(totals: dict[str, dict[str, Total]]) -> Total:
    """Return an upper bound of what a patient who took part in all runs has spent."""
    found = NOTHING
    for parts in totals.values():
        found += upper_bound(parts.values())
    return found


def require_within(totals: dict[str, dict[str, Total]], run: str, limits: Sequence[Limit]) -> None:
    """Check every limit against the totals of all runs, of which `run` is the one that spends.

    Raises
    ------
    BudgetError
        A limit would be exceeded.
    """
    for limit in limits:
        total = lifetime_total(totals) if limit.for_life else upper_bound(totals[run].values())
        if (reached := total.epsilon(limit.delta)) > limit.epsilon * SLACK:
            raise BudgetError(
                f"{limit.of} allows an epsilon of {limit.epsilon:g} at delta {limit.delta:g} "
                f"{'for life' if limit.for_life else 'in this run'}; this release would reach {reached:.4g}"
            )


def same(one: Total, other: Total) -> bool:
    """Return whether two totals are equal up to rounding."""
    return bool(np.allclose(one.curve, other.curve, rtol=1e-9)) and abs(one.delta - other.delta) < 1e-15
