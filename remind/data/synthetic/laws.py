"""Distributions of modality combinations: the paper's three cohorts (algorithm §2), and Pr(g_k) of algorithm §1.

``brats`` has the four sequences of BraTS, whose patients are complete; the shares of its combinations are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.errors import UserError


@dataclass(frozen=True)
class Law:
    """Shares of the groups over modalities M1, M2 and so on. The shares sum to 1."""

    modalities: tuple[str, ...]
    shares: Mapping[int, float]


def _law(n_modalities: int, published: Mapping[str, float], names: tuple[str, ...] = ()) -> Law:
    names = names or modality_names(n_modalities)
    total = sum(published.values())  # the published shares of FPRM sum to .999
    return Law(names, {groups.parse(group, names): share / total for group, share in published.items()})


def modality_names(n_modalities: int) -> tuple[str, ...]:
    """Return ``("M1", "M2", …)``, the paper's names."""
    return tuple(f"M{i + 1}" for i in range(n_modalities))


LAWS: Mapping[str, Law] = {
    "fprm": _law(4, {"M1+M4": 0.599, "M1": 0.177, "M1+M2+M3+M4": 0.162, "M1+M2+M3": 0.053, "M1+M3+M4": 0.008}),
    "embed": _law(
        4,
        {"M3+M4": 0.578, "M1+M2+M3+M4": 0.371, "M3": 0.030, "M4": 0.012, "M1+M3": 0.006, "M1+M3+M4": 0.003},
    ),
    "mimic-iv": _law(
        3,
        {
            "M1": 0.048,
            "M2": 0.052,
            "M1+M2": 0.143,
            "M3": 0.052,
            "M1+M3": 0.155,
            "M2+M3": 0.147,
            "M1+M2+M3": 0.403,
        },
    ),
    "brats": _law(
        4,
        {
            "t1+t1ce+t2+flair": 0.5,
            "t1+t1ce+flair": 0.15,
            "t1+t2+flair": 0.15,
            "t1ce+flair": 0.1,
            "t2+flair": 0.05,
            "t1+t1ce": 0.05,
        },
        ("t1", "t1ce", "t2", "flair"),
    ),
}


def parse_missing(text: str) -> tuple[float, ...]:
    """Parse Pr(modality i is missing), (m,), from ``"0.1, 0.4, 0.6"``.

    Raises
    ------
    UserError
        A value is not a number, or not in 0 … 1 (1 excluded).
    """
    try:
        missing_m = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"synthetic.missing: {text!r} is not a list of numbers; write one like '0.1, 0.4, 0.6'"
        ) from None
    if not all(0 <= p < 1 for p in missing_m):
        raise UserError(
            f"synthetic.missing: {text!r}: each must be at least 0 and below 1: some patient must have each modality"
        )
    if len(missing_m) > groups.MAX_MODALITIES:
        raise UserError(f"synthetic.missing: {len(missing_m)} modalities; at most {groups.MAX_MODALITIES}")
    return missing_m


def draw_law(law: Law, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the presence masks of n patients, (n, m)."""
    drawn_N = rng.choice(list(law.shares), size=n, p=list(law.shares.values()))
    found: NDArray[np.bool_] = (drawn_N[:, None] >> np.arange(len(law.modalities)) & 1).astype(bool)
    return found


def draw_independent(missing_m: tuple[float, ...], n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the presence masks of n patients, (n, m), by Pr(g_k) of algorithm §1.

    No sample is rejected, so drawing does not take longer if nearly everything is missing: the first modality of a
    patient
    is drawn from its distribution given that there is one; the later ones are independent.
    """
    p_m = np.array(missing_m)
    none_before_m = np.concatenate([[1.0], np.cumprod(p_m)[:-1]])
    first_m = none_before_m * (1 - p_m)
    first_N = rng.choice(len(p_m), size=n, p=first_m / first_m.sum())
    modality_m = np.arange(len(p_m))
    later_Nm = (modality_m > first_N[:, None]) & (rng.random((n, len(p_m))) >= p_m)
    found: NDArray[np.bool_] = later_Nm | (modality_m == first_N[:, None])
    return found
