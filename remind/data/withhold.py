"""Which counts to keep back so that a small one is not given away, by itself or by subtraction.

Counts that are published together are tied by sums: sites add up to their group, groups to the cohort. Whoever sees all
of a sum but one knows that one too. So further counts are withheld, the smallest that will do, until no small count
follows from the others by adding and subtracting, and what is withheld of a known sum amounts to the minimum itself.
Narrow bounds, which follow from no count being negative, are not looked for.

Letters: V counts, Q sums.
"""

import numpy as np
from numpy.typing import NDArray

CERTAIN = 1 - 1e-6  # a count whose unit vector lies in the span of the known sums by so much follows from them
ROUNDING = 1e-10  # of the largest eigenvalue: what counts as 0

Mask = NDArray[np.bool_]


def withhold(
    count_V: NDArray[np.int64],
    sums_QV: NDArray[np.int8],
    minimum: int,
    small_V: Mask | None = None,
    in_any_case_V: Mask | None = None,
) -> Mask:
    """Counts to withhold, (V,).

    Parameters
    ----------
    count_V
        The counts, none negative.
    sums_QV
        What a reader knows: each ``sums_QV[q] @ count_V``. Parts of a sum have one sign, a total that is a count itself
        has the other; 0 for the rest.
    minimum
        Counts of 1 … `minimum` − 1 are small.
    small_V
        Which counts are small, where that is not decided by the counts themselves.
    in_any_case_V
        Counts that are withheld, small or not.
    """
    small_V = (count_V > 0) & (count_V < minimum) if small_V is None else small_V
    always_V = small_V if in_any_case_V is None else small_V | in_any_case_V
    hidden_V = always_V.copy()
    while covers := _covers(count_V, sums_QV, minimum, small_V, hidden_V):
        for cover_V in covers:
            if not (cover_V & hidden_V).any():  # else an earlier one of this pass serves it already
                open_V = np.flatnonzero(cover_V)
                hidden_V[open_V[count_V[open_V].argmin()]] = True
    for v in np.flatnonzero(hidden_V & ~always_V & _known(sums_QV, hidden_V)):  # they follow from the rest anyway
        hidden_V[v] = False
        if _covers(count_V, sums_QV, minimum, small_V, hidden_V):
            hidden_V[v] = True
    return hidden_V


def _covers(
    count_V: NDArray[np.int64], sums_QV: NDArray[np.int8], minimum: int, small_V: Mask, hidden_V: Mask
) -> list[Mask]:
    """For each small count or small sum that is given away, counts of which hiding one more would help."""
    covers = []
    for sign in (1, -1):
        part_QV = (sums_QV == sign) & hidden_V
        given_Q = (part_QV & small_V).any(axis=1) & ~((sums_QV == -sign) & hidden_V).any(axis=1)
        given_Q &= part_QV @ count_V < minimum
        covers += [(sums_QV[q] == sign) & ~hidden_V & (count_V > 0) for q in np.flatnonzero(given_Q)]
    tied_QV = sums_QV != 0
    for v in np.flatnonzero(small_V & _known(sums_QV, hidden_V)):
        beside_V = tied_QV[tied_QV[:, v]].any(axis=0)
        near_V = tied_QV[tied_QV[:, beside_V].any(axis=1)].any(axis=0)
        choices = (beside_V & (count_V > 0), near_V & (count_V > 0), beside_V, np.ones_like(beside_V))
        covers.append(next((c for c in choices if (c & ~hidden_V).any()), beside_V) & ~hidden_V)
    return [cover_V for cover_V in covers if cover_V.any()]


def _known(sums_QV: NDArray[np.int8], hidden_V: Mask) -> Mask:
    """Hidden counts that follow from the sums and what is not hidden, (V,)."""
    known_V = np.zeros(len(hidden_V), dtype=bool)
    if hidden_V.any():
        unknown_QH = sums_QV[:, hidden_V].astype(float)
        size, vectors = np.linalg.eigh(unknown_QH @ unknown_QH.T)  # there are far fewer sums than counts
        real = size > ROUNDING * max(1.0, size[-1])
        span = (vectors[:, real] / np.sqrt(size[real])).T @ unknown_QH
        known_V[hidden_V] = (span**2).sum(axis=0) > CERTAIN
    return known_V
