"""Cell suppression: selects the counts to suppress so that no small count can be derived from the published ones.

Counts that are published together are related: sites add up to their group, groups to the cohort, a round without a
site to the round with it. A reader who has all of them can add and subtract. So more counts than the small ones are
suppressed, until this holds for every small count: **there is another table, without negative counts, that agrees with
everything published, and in which that count is at least the minimum.** Then the published counts determine no small
count, nor any sum of suppressed counts below the minimum: such a sum would by itself bound a small count. This is the
criterion of upper protection in the literature on cell suppression (Willenborg & de Waal, *Elements of Statistical
Disclosure Control*, 2001, ch. 4), and it is checked by linear programming.

Not checked: a lower bound, and conclusions from the fact that counts are whole numbers.

Letters: A atoms, which are disjoint sets of patients; V counts, each the sum of some atoms; T small counts, R published
counts, H atoms that are not published by themselves.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack, identity, kron
from scipy.sparse.linalg import lsmr

# Number of random changes, their accuracy, and the size that counts as no change.
TRIES, EXACT, UNMOVED = 3, 1e-13, 1e-6
SLACK = 1e-4  # patients: tolerance for the solver's error
PRICED = 1e-9  # a price above this is not zero
MANY, FEW = 60, 4  # targets

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


def withhold(
    atom_A: Counts,
    parts_VA: Any,
    minimum: int,
    *,
    small_V: Mask | None = None,
    in_any_case_V: Mask | None = None,
    published_V: Mask | None = None,
    bundle_V: NDArray[np.int64] | None = None,
    careful: bool = False,
) -> Mask:
    """Return which counts to suppress, (V,).

    Parameters
    ----------
    atom_A
        Patients of each atom, none negative.
    parts_VA
        0/1, dense or sparse: the atoms that each count is the sum of.
    minimum
        Counts of 1 … `minimum` − 1 are small.
    small_V
        Which counts are small, if the counts themselves do not decide that.
    in_any_case_V
        Counts that are suppressed, small or not.
    published_V
        Counts that were published before and cannot be withdrawn. If no small count followed from them alone, none
        follows from them together with the result.
    bundle_V
        Counts with the same number are published together or not at all; by default each count is independent.
    careful
        Suppress nothing for a small count that would be protected without it. For the most important counts, as long
        as they are few: it takes up to one linear programme for each small count.
    """
    parts_VA = csr_matrix(parts_VA, dtype=np.float64)
    parts_VA.eliminate_zeros()
    count_V = np.rint(parts_VA @ atom_A).astype(np.int64)
    n_counts = len(count_V)
    small_V = (count_V > 0) & (count_V < minimum) if small_V is None else small_V
    out_V = np.zeros(n_counts, dtype=bool) if published_V is None else published_V
    bundle_V = np.arange(n_counts) if bundle_V is None else bundle_V
    always_V = _whole(small_V if in_any_case_V is None else small_V | in_any_case_V, bundle_V) & ~out_V
    hidden_V = always_V.copy()
    pending = np.flatnonzero(small_V & hidden_V)
    # The second case is a count that is small for another reason than its number.
    need_V = np.where(count_V < minimum, minimum, 2 * count_V)
    parts_VA = _merged(parts_VA)
    while len(pending):
        # Another table shows whether a target is protected. If there are many targets, one table for all of them shows
        # at once that most are protected. A target that gets too little in it because of counts beside it is given
        # cover immediately, although it might not need one.
        chosen_V, asked = np.zeros_like(hidden_V), pending
        if len(pending) > (FEW if careful else MANY):
            highest_V, price_V = _best_table(parts_VA, count_V, hidden_V, pending, need_V)
            pending = pending[highest_V[pending] < need_V[pending] - SLACK]
        if len(asked) > MANY and not careful:
            chosen_V = _covers_beside(parts_VA, count_V, hidden_V | out_V, pending, price_V)
        if len(pending) == len(asked) and not chosen_V.any():
            highest_V, price_V = _best_table(parts_VA, count_V, hidden_V, pending[:1], need_V)
            if highest_V[pending[0]] < need_V[pending[0]] - SLACK:
                chosen_V = _cover(parts_VA, count_V, hidden_V | out_V, price_V)
            if not chosen_V.any():  # either it is protected, or what is published reveals it and nothing can be done
                pending = pending[1:]
            pending = pending[highest_V[pending] < need_V[pending] - SLACK]
        hidden_V |= _whole(chosen_V, bundle_V) & ~out_V
    follows_V = hidden_V & ~always_V
    follows_V[follows_V] = _known(parts_VA, hidden_V, follows_V)
    return hidden_V & ~(follows_V & ~_whole(hidden_V & ~follows_V, bundle_V))


def margin(shape: Sequence[int], keep: Sequence[int]) -> Any:
    """Return which cells of a table add up to each cell of its margin over the axes not kept, (V, A) sparse.

    The cells of the table are the atoms, in C order; those of the margin are in C order too.
    """
    parts_VA = identity(1, format="csr")
    for axis, n in enumerate(shape):
        parts_VA = kron(parts_VA, identity(n) if axis in keep else np.ones((1, n)), format="csr")
    return parts_VA


def _whole(mask_V: Mask, bundle_V: NDArray[np.int64]) -> Mask:
    """Extend a mask to whole bundles: every bundle with any count in the mask."""
    return np.isin(bundle_V, bundle_V[mask_V])


def _merged(parts_VA: Any) -> Any:
    """Merge atoms that are in the same counts."""
    by_atom = parts_VA.tocsc()
    by_atom.sort_indices()
    columns = [column.tobytes() for column in np.split(by_atom.indices, by_atom.indptr[1:-1])]
    return by_atom[:, np.unique(np.array(columns, dtype=object), return_index=True)[1]].tocsr()


def _best_table(
    parts_VA: Any, count_V: Counts, hidden_V: Mask, targets: NDArray[np.intp], need_V: Counts
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the counts of a table that agrees with what is published and gives the targets as much as they need, (V,).

    Also return the prices of the published counts, (V,): the targets' gain per additional patient in the count.
    """
    shown = np.flatnonzero(~hidden_V)
    n_targets, n_atoms = len(targets), parts_VA.shape[1]
    found = linprog(
        np.concatenate([np.zeros(n_atoms), -np.ones(n_targets)]),
        A_ub=hstack([-parts_VA[targets], identity(n_targets)], format="csr"),
        b_ub=np.zeros(n_targets),
        A_eq=hstack([parts_VA[shown], csr_matrix((len(shown), n_targets))], format="csr") if len(shown) else None,
        b_eq=count_V[shown] if len(shown) else None,
        bounds=[(0, None)] * n_atoms + [(0, need) for need in need_V[targets]],
        method="highs",
    )
    if found.status != 0:
        raise RuntimeError(f"cell suppression: no solution ({found.message})")
    price_V = np.zeros(len(count_V))
    if len(shown):
        price_V[shown] = -found.eqlin.marginals
    return parts_VA @ found.x[:n_atoms], price_V


def _covers_beside(
    parts_VA: Any, count_V: Counts, fixed_V: Mask, targets: NDArray[np.intp], price_V: NDArray[np.float64]
) -> Mask:
    """Select for each target the finest of the counts that bound it, unless one of them is already chosen, (V,).

    A published sum that bounds a target has a positive price; a count subtracted from that sum has a negative one.
    Targets whose sums have nothing subtracted get no cover, because they may only compete with other targets.
    """
    chosen_V = np.zeros(len(count_V), dtype=bool)
    rank_V = _rank(parts_VA, count_V)
    sums, parts = (np.flatnonzero((sign * price_V > PRICED) & ~fixed_V) for sign in (1, -1))
    meet_SP = parts_VA[sums] @ parts_VA[parts].T
    above_TS = parts_VA[targets] @ parts_VA[np.flatnonzero(price_V > PRICED)].T
    beside_TP = (above_TS @ (parts_VA[np.flatnonzero(price_V > PRICED)] @ parts_VA[parts].T)).tocsr()
    around_TS = (beside_TP @ meet_SP.T).tocsr()
    for t in range(len(targets)):
        beside = parts[beside_TP.indices[beside_TP.indptr[t] : beside_TP.indptr[t + 1]]]
        if len(beside):
            around = sums[around_TS.indices[around_TS.indptr[t] : around_TS.indptr[t + 1]]]
            cover = np.concatenate([beside, around])
            if not chosen_V[cover].any():
                chosen_V[cover[rank_V[cover].argmin()]] = True
    return chosen_V


def _cover(parts_VA: Any, count_V: Counts, fixed_V: Mask, price_V: NDArray[np.float64]) -> Mask:
    """Select the finest of the counts that bound a single target, (V,); none if all of them are fixed."""
    chosen_V = np.zeros(len(count_V), dtype=bool)
    free = np.flatnonzero((np.abs(price_V) > PRICED) & ~fixed_V)
    chosen_V[free[_rank(parts_VA, count_V)[free].argmin()] if len(free) else []] = True
    return chosen_V


def _rank(parts_VA: Any, count_V: Counts) -> NDArray[np.intp]:
    """Rank the counts by preference for suppression, (V,): few atoms first, then small ones; counts of nobody last."""
    return np.argsort(np.lexsort((count_V, np.diff(parts_VA.indptr), count_V == 0)))


def _known(parts_VA: Any, hidden_V: Mask, asked_V: Mask) -> Mask:
    """Return which of the requested counts follow from the published ones, (number of requested counts,).

    A sum follows if every change of the atoms that leaves the published counts unchanged also leaves the sum unchanged.
    Random changes test this: subtract from a random vector its projection onto the span of the published sums.
    """
    known_Q = np.ones(int(asked_V.sum()), dtype=bool)
    shown_VA, asked_QA = parts_VA[np.flatnonzero(~hidden_V)], parts_VA[np.flatnonzero(asked_V)]
    if not len(known_Q) or not shown_VA.nnz:
        return known_Q & bool(shown_VA.nnz)
    rng = np.random.default_rng(0)
    for _ in range(TRIES):
        change_A = rng.standard_normal(parts_VA.shape[1])
        price_V = lsmr(shown_VA.T, change_A, atol=EXACT, btol=EXACT, maxiter=20 * sum(shown_VA.shape))[0]
        known_Q &= np.abs(asked_QA @ (change_A - shown_VA.T @ price_V)) < UNMOVED
    return known_Q
