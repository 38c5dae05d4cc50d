"""Patient counts of a cohort that are safe to publish: by group, by site, by class, by group and site or class.

Letters: N patients, G groups, S sites, C classes; V counts in all.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import vstack

from remind.errors import UserError
from remind.privacy.cell_suppression import Mask, margin, withhold

WITHHELD = -1  # replaces a suppressed count
MOST_CELLS = 30_000  # groups × sites: this many take a minute and a gigabyte
# Axes (group, site, class) of each table, in the order in which counts are stored.
TABLES = ((0,), (1,), (2,), (0, 1), (0, 2))
Counts = NDArray[np.int64]
Codes = tuple[Counts, Counts, Counts]  # group, site and class of each patient
Size = tuple[int, int, int]  # G, S, C; S = 0: no sites


def publishable(codes: Codes, size: Size, person_N: Counts, min_count: int) -> list[Counts]:
    """Return counts (G,), (S,), (C,), (G, S), (G, C).

    `WITHHELD` replaces those that would reveal fewer than `min_count` persons.

    Nothing is published about a small group or site, not even at which sites it has nobody. So all small groups can be
    treated as one, and all small sites, which keeps the number of sums small.

    Parameters
    ----------
    person_N
        The person of each patient; several visits of one person have the same value.

    Raises
    ------
    UserError
        There are too many groups and sites of that size to check all sums.
    """
    place_G, rest_G = _merged(codes[0], size[0], person_N, min_count)
    place_S, rest_S = _merged(codes[1], size[1], person_N, min_count)
    few_codes = (place_G[codes[0]], place_S[codes[1]], codes[2])
    few = (int(place_G.max()) + 1, int(place_S.max(initial=-1)) + 1, size[2])
    tables = _counts(few_codes, few)
    count_V, persons_V = (_flat(one) for one in (tables, _counts(few_codes, few, person_N)))
    in_any_case = [np.zeros(table.shape, dtype=bool) for table in tables]
    if rest_G:
        in_any_case[0][-1] = in_any_case[3][-1] = in_any_case[4][-1] = True
    if rest_S:
        in_any_case[1][-1] = in_any_case[3][:, -1] = True
    small_V, hidden_V = (count_V > 0) & (persons_V < min_count), _flat(in_any_case)
    if (small_V | hidden_V).any():
        shape = (few[0], max(few[1], 1), few[2])
        if shape[0] * shape[1] > MOST_CELLS:
            raise UserError(
                f"{few[0]} groups at {few[1]} sites are too many to check that no small count follows from the others; "
                f"give a larger --min-count than {min_count}, so that fewer groups are large enough to be published"
            )
        hidden_V = _withheld(few_codes, shape, bool(few[1]), min_count, small_V, hidden_V)
    edges = np.cumsum([table.size for table in tables])[:-1]
    count_G, count_S, count_C, count_GS, count_GC = (
        np.where(hidden.reshape(table.shape), WITHHELD, table)
        for table, hidden in zip(tables, np.split(hidden_V, edges), strict=True)
    )
    count_GS[count_G == WITHHELD] = WITHHELD
    count_GS[:, count_S == WITHHELD] = WITHHELD
    # A class without patients in a group would reveal something about everyone in the group.
    count_GC[count_G == WITHHELD] = WITHHELD
    return [count_G[place_G], count_S[place_S], count_C, count_GS[np.ix_(place_G, place_S)], count_GC[place_G]]


def _withheld(codes: Codes, shape: Size, sites: bool, min_count: int, small_V: Mask, in_any_case_V: Mask) -> Mask:
    """Return which counts of the five tables are suppressed. The number of all patients is published."""
    axes = [axes for axes in TABLES if sites or 1 not in axes]
    parts_VA = vstack([margin(shape, keep) for keep in ((), *axes)], format="csr")
    site_N = codes[1] if sites else np.zeros_like(codes[0])
    cell_N = np.ravel_multi_index((codes[0], site_N, codes[2]), shape)
    everyone = np.zeros(1, dtype=bool)
    return withhold(
        np.bincount(cell_N, minlength=parts_VA.shape[1]),
        parts_VA,
        min_count,
        small_V=np.concatenate([everyone, small_V]),
        in_any_case_V=np.concatenate([everyone, in_any_case_V]),
        published_V=np.arange(parts_VA.shape[0]) == 0,
    )[1:]


def _merged(code_N: Counts, number: int, person_N: Counts, min_count: int) -> tuple[Counts, bool]:
    """Map groups or sites to those of at least `min_count` persons; all small ones, if any, share the last position."""
    pair_2N = np.unique(np.stack([code_N, person_N[: len(code_N)]]), axis=1)
    small = np.bincount(pair_2N[0], minlength=number) < min_count
    return np.where(small, (~small).sum(), np.cumsum(~small) - 1), bool(small.any())


def _counts(codes: Codes, size: Size, person_N: Counts | None = None) -> list[Counts]:
    """Count patients, or persons, in five tables."""
    tables = []
    for axes in TABLES:
        shape = tuple(size[axis] for axis in axes)
        if 0 in shape:  # no sites
            tables.append(np.zeros(shape, dtype=np.int64))
            continue
        cell_N = np.ravel_multi_index([codes[axis] for axis in axes], shape)
        if person_N is not None:
            cell_N = np.unique(np.stack([cell_N, person_N]), axis=1)[0]
        tables.append(np.bincount(cell_N, minlength=int(np.prod(shape))).reshape(shape))
    return tables


def _flat(tables: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([table.ravel() for table in tables])
