"""Few rows in which every two values of different factors meet, in place of the product of all factors."""

from collections.abc import Callable, Hashable, Sequence
from itertools import combinations, product
from typing import Any

Pair = frozenset[tuple[int, Hashable]]  # two (factor, value)


def pairwise(factors: Sequence[Sequence[Any]], allowed: Callable[..., bool] = lambda *_: True) -> list[tuple[Any, ...]]:
    """Rows of one value per factor; every pair of values that is in an allowed row is in one of them.

    Greedy: a row begins with a pair that is still missing, and takes for each other factor the value that meets most.

    Parameters
    ----------
    factors
        The values of each factor.
    allowed
        Whether a row may be; must depend on the first two factors only.
    """
    two = [pair for pair in product(*factors[:2]) if allowed(*pair, *(values[0] for values in factors[2:]))]
    every = [
        frozenset(((i, a), (j, b)))
        for (i, first), (j, second) in combinations(enumerate(factors), 2)
        for a, b in (two if (i, j) == (0, 1) else product(first, second))
    ]
    missing, rows = dict.fromkeys(every), []
    while missing:
        row: dict[int, Hashable] = dict(next(iter(missing)))
        for i, values in enumerate(factors):
            if i not in row:
                other = row.get(1 - i) if i < 2 else None
                possible = [v for v in values if other is None or ((v, other) if i == 0 else (other, v)) in two]
                row[i] = max(possible, key=lambda v: sum(p in missing for p in pairs(row | {i: v}) if (i, v) in p))
        for pair in pairs(row):
            missing.pop(pair, None)
        rows.append(tuple(row[i] for i in range(len(factors))))
    return rows


def pairs(row: dict[int, Any]) -> list[Pair]:
    """Every two (factor, value) of a row."""
    return [frozenset(two) for two in combinations(row.items(), 2)]
