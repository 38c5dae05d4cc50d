"""Cells of few patients, and those from which they could be worked out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind_server.store.schema import ALL

Cell = tuple[int, int]  # site, group; ALL for the margins


@dataclass(frozen=True)
class Hidden:
    """Which (site, group) cells of one table are not shown."""

    cells: frozenset[Cell]

    def __contains__(self, cell: Cell) -> bool:
        return cell in self.cells


NOTHING_HIDDEN = Hidden(frozenset())


def hide(count_of: Mapping[Cell, int], min_count: int) -> Hidden:
    """Cells with 1 … min_count − 1 patients; and as many more as it takes that no margin gives one of them away.

    A row or a column with its margin that lacks one number only gives that number away by subtraction, so its smallest
    other cell is hidden too. Without margins there is nothing to subtract from. No patients is no cell: 0 is shown.
    """
    if min_count <= 1 or not count_of:
        return NOTHING_HIDDEN
    sites, groups = sorted({s for s, _ in count_of}), sorted({g for _, g in count_of})
    place = {s: i for i, s in enumerate(sites)}, {g: i for i, g in enumerate(groups)}
    n_SG = np.zeros((len(sites), len(groups)), dtype=np.int64)
    for (site, group), n in count_of.items():
        n_SG[place[0][site], place[1][group]] = n
    hidden_SG = (n_SG > 0) & (n_SG < min_count)
    changed = True
    while changed:
        rows = _cover(n_SG, hidden_SG, groups[0] == ALL)
        columns = _cover(n_SG.T, hidden_SG.T, sites[0] == ALL)
        changed = rows or columns
    return Hidden(frozenset((sites[i], groups[j]) for i, j in zip(*np.nonzero(hidden_SG), strict=True)))


def hide_line(counts: Iterable[tuple[int, int]], min_count: int) -> Hidden:
    """The same for one row of (group, patients) pairs, its margin under ALL; cells are (ALL, group)."""
    return hide({(ALL, group): n for group, n in counts}, min_count)


def _cover(n_LC: NDArray[np.int64], hidden_LC: NDArray[np.bool_], has_margin: bool) -> bool:
    """Hide one more cell in each line that lacks one only; column 0 is the margin. True if anything changed."""
    if not has_margin:
        return False
    changed = False
    for line in np.flatnonzero(hidden_LC.sum(axis=1) == 1):
        shown = np.flatnonzero((n_LC[line] > 0) & ~hidden_LC[line])
        inner = shown[shown > 0]
        pick = inner[np.argmin(n_LC[line][inner])] if len(inner) else shown[:1]
        hidden_LC[line, pick] = True
        changed = changed or len(shown) > 0
    return changed
