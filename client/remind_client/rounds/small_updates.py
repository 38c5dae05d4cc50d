"""Suppress updates of model parts that too few patients changed in a round: the site returns them as it received them.

A round's update of a part is a sum over the patients that were drawn and reach it. If only one patient reaches the
part, the update is that patient's own gradient, however large the batch is. This happens with a rare group in a short
round, or when one patient has nearly all of the weight. So every part needs the site's minimum of different patients,
and no patient may contribute much more than an equal share.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from remind.federation.blocks import SHARED
from remind.fusion.base import FusionModel
from remind.fusion.prototypes import PROTOTYPES
from remind.methods import FUSION
from remind.training.sampling import Step

MOST = 2.0  # times an equal share among the minimum of patients, that one patient may have in a part's update


def blocks_below_minimum(
    plan: Sequence[Step],
    group_N: NDArray[np.int64],
    modalities: Sequence[str],
    blocks: Collection[str],
    minimum: int,
) -> frozenset[str]:
    """Return those of `blocks` that fewer than `minimum` patients change, or that one patient dominates.

    Parameters
    ----------
    plan
        The round's steps; a patient contributes the sum of the patient's weights in them.
    group_N
        Group of each of the site's N patients.
    modalities
        Names of the schema's modalities, in the order of the groups' bits.
    """
    pull_N = pulls(plan, len(group_N))
    reaching = {block: pull_N[_reaching(block, group_N, modalities)] for block in blocks}
    return frozenset(block for block, pull_P in reaching.items() if _below_minimum(pull_P, minimum))


def prototypes_of(fusion: FusionModel) -> list[str]:
    """Return the names in `SiteModel` of the parameters that follow the features of a class in a modality."""
    own = [FUSION + name for name in fusion.by_class]
    return own if fusion.prototypes is None else [*own, PROTOTYPES]


def prototypes_below_minimum(
    plan: Sequence[Step],
    label_N: NDArray[np.int64],
    presence_Nm: NDArray[np.bool_],
    classes: int,
    minimum: int,
) -> NDArray[np.bool_]:
    """Return of which modalities and classes the prototype may not leave (``model.prototypes``), (m, C) bool.

    A prototype is a mean over the patients of one class who have the modality. It obeys the rule of a part of its own.
    """
    pull_N = pulls(plan, len(label_N))
    return np.array(
        [
            [_below_minimum(pull_N[has_N & (label_N == label)], minimum) for label in range(classes)]
            for has_N in presence_Nm.T
        ]
    )


def pulls(plan: Sequence[Step], patients: int) -> NDArray[np.float64]:
    """Return the sum of each patient's weights in the round's steps, (N,)."""
    pull_N = np.zeros(patients)
    for step in plan:
        np.add.at(pull_N, step.index_B, np.abs(step.weight_B))
    return pull_N


def rows_below_minimum(
    row_R: NDArray[np.int64], pull_R: NDArray[np.float64], patient_R: NDArray[np.int64], rows: int, minimum: int
) -> NDArray[np.bool_]:
    """Return which rows of a table may not leave, (rows,) bool: a row obeys the rule of a part of its own.

    A row that nobody reads counts as one that few read: else a row that comes back unchanged would tell that few do.

    Parameters
    ----------
    row_R, patient_R
        Readings: a row, and its patient. A patient may read a row several times.
    pull_R
        The patient's weight in the round, `pulls`.
    rows
        Number of rows of the table.
    """
    readings, first_R = np.unique(np.stack([row_R, patient_R]), axis=1, return_index=True)
    row_R, pull_R = readings[0], pull_R[first_R]
    row_R, pull_R = row_R[pull_R > 0], pull_R[pull_R > 0]
    number, total, most = np.bincount(row_R, minlength=rows), np.bincount(row_R, pull_R, rows), np.zeros(rows)
    np.maximum.at(most, row_R, pull_R)
    return np.asarray((number < minimum) | (most > MOST / minimum * total))


def _reaching(block: str, group_N: NDArray[np.int64], modalities: Sequence[str]) -> NDArray[np.bool_]:
    """Return which patients contribute to a block, (N,) bool."""
    kind, _, name = block.partition(":")
    if block == SHARED:
        return np.ones(len(group_N), dtype=bool)
    if kind == "group":
        return np.asarray(group_N == int(name))
    bit = 1 << modalities.index(name)
    return np.asarray((group_N & bit) > 0)


def _below_minimum(pull_P: NDArray[np.float64], minimum: int) -> bool:
    moving = pull_P[pull_P > 0]
    if not len(moving):
        return False  # no patient contributed: it reveals nothing
    return len(moving) < minimum or float(moving.max() / moving.sum()) > MOST / minimum
