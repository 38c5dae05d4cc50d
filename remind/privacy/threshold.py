"""The minimum count: the number of patients that a number must represent before it is shown to others.

All commands and a hospital's policy share one default. The functions apply it to one group at one site.
`cell_suppression` prevents that a small count follows from several published numbers by subtraction.
"""

from collections.abc import Collection, Mapping
from typing import Protocol, TypeVar

MIN_COUNT = 10  # usual in registries; the default of a hospital's policy and of every --min-count


class Counted(Protocol):
    """Something measured on `count` patients."""

    @property
    def count(self) -> int:
        """Return the number of patients."""


Part = TypeVar("Part", bound=Counted)


def default_minimum(real: bool) -> int:
    """Return the default minimum count: that of real cohorts, or 1 for synthetic patients."""
    return MIN_COUNT if real else 1


def is_small(count: int, minimum: int) -> bool:
    """Return whether a number of patients must be suppressed: 1 … `minimum` − 1. 0 may be shown."""
    return 0 < count < minimum


def large_groups(counts: Mapping[int, int], minimum: int) -> frozenset[int]:
    """Return the groups of at least `minimum` patients."""
    return frozenset(k for k, count in counts.items() if count >= minimum)


def large_parts(part: Mapping[int, Part], released: Collection[int], minimum: int) -> dict[int, Part]:
    """Return the measurements of those `released` groups that have at least `minimum` patients in the measurement."""
    return {k: given for k, given in part.items() if k in released and given.count >= minimum}
