"""Hide a modality of some of the patients who have it (the paper's Table 5)."""

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort
from remind.errors import UserError
from remind.seeds import derive

DRAWS = 2**63  # as many as `derive` can give


def hide(cohort: Cohort, modality: str, share: float, seed: int) -> Cohort:
    """Return the cohort with `modality` hidden from a seeded share of the patients who have it, in all parts.

    A hash of seed, modality and person decides. All rows of a person are therefore treated equally, and neither the
    order of the rows nor other persons matter: hospitals that hide it separately get the same result as the whole
    cohort. A larger share hides the modality from all persons of a smaller share. The resulting share is `share` up to
    chance, minus the patients who have no other modality and therefore keep it (`spared`).

    Parameters
    ----------
    share
        Probability of a person with the modality to lose it, 0 … 1.

    Raises
    ------
    UserError
        The cohort does not have this modality, or `share` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise UserError(f"share: {share:g} is not between 0 and 1")
    having_N = _having(cohort, modality)
    if not share:
        return cohort
    names, of_N = np.unique(cohort.person_N, return_inverse=True)
    drawn_P = np.array([derive(seed, "hide", modality, name) < share * DRAWS for name in names.tolist()], dtype=bool)
    return cohort.without(modality, where_N=having_N & drawn_P[of_N] & ~_alone(cohort, modality))


def spared(cohort: Cohort, modality: str) -> int:
    """Return the number of patients who have only this modality; it is never hidden from them.

    Raises
    ------
    UserError
        The cohort has no such modality.
    """
    return int((_having(cohort, modality) & _alone(cohort, modality)).sum())


def _having(cohort: Cohort, modality: str) -> NDArray[np.bool_]:
    names = cohort.schema.names
    if modality not in names:
        raise UserError(
            f"there is no modality {modality!r} in cohort {cohort.schema.name}; there are {', '.join(names)}"
        )
    having_N: NDArray[np.bool_] = cohort.presence_Nm[:, names.index(modality)]
    return having_N


def _alone(cohort: Cohort, modality: str) -> NDArray[np.bool_]:
    alone_N: NDArray[np.bool_] = cohort.groups_N == 1 << cohort.schema.names.index(modality)
    return alone_N
