"""Reasons not to trust a prediction: a rarely trained combination, and values far outside the training range."""

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.data.cohort.cohort import Cohort
from remind.prediction.bundle import Bundle
from remind.prediction.ranges import Ranges, remarks
from remind.prediction.site_part import SitePart


def reasons(
    cohort: Cohort, train_N: NDArray[np.int64], bundle: Bundle, part: SitePart | None, least: int
) -> list[list[str]]:
    """Return the reasons for each patient; an empty list if there is none.

    Parameters
    ----------
    train_N
        Training patients of each patient's combination, over all hospitals.
    part
        The hospital's part; None for the shared model.
    least
        A combination with fewer training patients is a reason.
    """
    found: list[list[str]] = [[] for _ in range(len(cohort))]
    for i, (group, n) in enumerate(zip(cohort.groups_N.tolist(), train_N.tolist(), strict=True)):
        name = groups.name(group, bundle.schema.names)
        if n == 0:
            who = "no training patient" if bundle.tensors else "no training patient of this hospital"
            found[i].append(f"unseen combination: {who} had {name}")
        elif n < least:
            found[i].append(f"few training patients: {n} had {name}, fewer than {least}")
        here = 0 if part is None else part.own.get(group, 0)
        if part is not None and part.adapted and n and here < least:
            found[i].append(f"adapted to few patients: {here} of this hospital had {name}, fewer than {least}")
    for i, texts in remarks(cohort, Ranges() if part is None else part.ranges).items():
        found[i] += texts
    return found
