"""Modality combinations ("groups", algorithm §1): bitmasks, their names, their shares and their distribution.

Group g is a bitmask over the cohort's m modalities in schema order: bit i is set if modality i is present, so a group
is in 1 … 2^m − 1. A group exists from its first observation; nothing here enumerates 2^m groups.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from remind.errors import UserError
from remind.suggest import did_you_mean

MAX_MODALITIES = 62  # a group is an int64 that is never negative
TAIL_SHARE = 0.15  # a group is tail when its share of the training patients is strictly below this


def masks(presence_Bm: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the group of each patient, (B,), from the presence of the m modalities, (B, m)."""
    n_modalities = presence_Bm.shape[1]
    if n_modalities > MAX_MODALITIES:
        raise UserError(f"{n_modalities} modalities: at most {MAX_MODALITIES} fit a group's bitmask; merge some")
    return presence_Bm.astype(np.int64) @ (np.int64(1) << np.arange(n_modalities, dtype=np.int64))


def members(group: int) -> tuple[int, ...]:
    """Return the positions of a group's modalities, ascending."""
    return tuple(i for i in range(group.bit_length()) if group >> i & 1)


def name(group: int, modalities: Sequence[str]) -> str:
    """Return the name of a group as people write it: ``"fundus+table"``."""
    return "+".join(modalities[i] for i in members(group))


def label(group: int, modalities: Sequence[str]) -> str:
    """Return the shorter of a group's name and of what it lacks (``"all but oct"``), for places with little room.

    Labels of different groups differ, because both forms say every modality.
    """
    lacking = [name for i, name in enumerate(modalities) if not group >> i & 1]
    short = f"all but {'+'.join(lacking)}" if lacking else f"all {len(modalities)} modalities"
    whole = name(group, modalities)
    return whole if len(whole) <= len(short) else short


def dots(group: int, n_modalities: int) -> str:
    """Return a group as a row of dots, one per modality in schema order, dark where it is present: ``"●○●"``."""
    return "".join("●" if group >> i & 1 else "○" for i in range(n_modalities))


def parse(text: str, modalities: Sequence[str]) -> int:
    """Return the group that `text` (``"fundus+table"``) names, for any order of its parts."""
    group = 0
    for part in (p.strip() for p in text.split("+")):
        if part not in modalities:
            hint = did_you_mean(part, modalities)
            raise UserError(f"group {text!r}: {part!r} is not a modality{hint}; there are {', '.join(modalities)}")
        group |= 1 << list(modalities).index(part)
    return group


def counts(groups_B: Iterable[int]) -> dict[int, int]:
    """Return the number of patients per group, groups ascending."""
    values, numbers = np.unique(np.fromiter(groups_B, dtype=np.int64), return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


def shares(count_of: Mapping[int, int]) -> dict[int, float]:
    """Return each group's share of all patients."""
    total = max(sum(count_of.values()), 1)
    return {group: count / total for group, count in count_of.items()}


def tail(count_of: Mapping[int, int], threshold: float = TAIL_SHARE) -> frozenset[int]:
    """Return the groups whose share is strictly below `threshold` (algorithm §1)."""
    return frozenset(group for group, share in shares(count_of).items() if share < threshold)


def probability(group: int, missing_m: Sequence[float]) -> float:
    """Return Pr(g_k) if modality i is missing with probability p_i independently, given that one at least is present.

    ∏_{i∈g} (1 − p_i) · ∏_{j∉g} p_j / (1 − ∏_j p_j), for any m: the normaliser needs no sum over 2^m groups.
    """
    joint = prod(1 - p if group >> i & 1 else p for i, p in enumerate(missing_m))
    return joint / (1 - prod(missing_m)) if group else 0.0
