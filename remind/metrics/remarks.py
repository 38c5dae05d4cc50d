"""Remarks beside a score: a model that predicts the same class for nearly all patients can have a high accuracy."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
NEARLY_NOBODY, NEARLY_EVERYBODY = 0.1, 0.9


def recalls(confusion_CC: Integers) -> list[float | None]:
    """Return the share of each class that is recognised; None for a class without patients."""
    n_C = confusion_CC.sum(axis=1).tolist()
    return [float(confusion_CC[c, c] / n) if n else None for c, n in enumerate(n_C)]


def one_class(confusion_CC: Integers) -> int | None:
    """Return the class that the model predicts for nearly all patients of two or more classes; None if there is none.

    The recall of that class is above `NEARLY_EVERYBODY`, and that of every other class is below `NEARLY_NOBODY`.
    """
    found = {c: share for c, share in enumerate(recalls(confusion_CC)) if share is not None}
    top = max(found, key=lambda c: found[c], default=None)
    if top is None or len(found) < 2 or found[top] <= NEARLY_EVERYBODY:
        return None
    return top if all(share < NEARLY_NOBODY for c, share in found.items() if c != top) else None
