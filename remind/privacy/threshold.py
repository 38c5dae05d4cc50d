"""The minimum count: how many patients a number must stand for before it is shown to others.

One default for all commands and for a hospital's policy, and what it means for one group at one site. What follows from
several published numbers by subtraction is decided in `cell_suppression`.
"""

from collections.abc import Collection, Mapping
from typing import Protocol, TypeVar

MIN_COUNT = 10  # usual in registries; a hospital's policy and every --min-count start from it


class Counted(Protocol):
    """Something measured on `count` patients."""

    @property
    def count(self) -> int:
        """Patients."""


Part = TypeVar("Part", bound=Counted)


def is_small(count: int, minimum: int) -> bool:
    """Whether a number of patients must not be shown: 1 … `minimum` − 1. Nobody is no patient: 0 is shown."""
    return 0 < count < minimum


def large_groups(counts: Mapping[int, int], minimum: int) -> frozenset[int]:
    """Groups of at least `minimum` patients."""
    return frozenset(k for k, count in counts.items() if count >= minimum)


def large_parts(part: Mapping[int, Part], released: Collection[int], minimum: int) -> dict[int, Part]:
    """Of what was measured per group, that of the `released` groups of which at least `minimum` patients are in it."""
    return {k: given for k, given in part.items() if k in released and given.count >= minimum}
