"""What the columns of a feature matrix are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """F columns.

    Attributes
    ----------
    names
        For people.
    levels_F
        Number of levels of a categorical column, whose values are positions of levels; 0: a number.
    """

    names: tuple[str, ...]
    levels_F: tuple[int, ...]

    @classmethod
    def numeric(cls, names: Iterable[str]) -> Self:
        """Return columns of numbers."""
        names = tuple(names)
        return cls(names, (0,) * len(names))

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> Self:
        """Return the columns of all parts, in this order."""
        return cls(tuple(n for p in parts for n in p.names), tuple(n for p in parts for n in p.levels_F))
