"""What a score alone hides: a model that calls nearly everyone the same class can have a high accuracy."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
NEARLY_NOBODY, NEARLY_EVERYBODY = 0.1, 0.9


def recalls(confusion_CC: Integers) -> list[float | None]:
    """Return the share of each class that is recognised; None for a class without patients."""
    n_C = confusion_CC.sum(axis=1).tolist()
    return [float(confusion_CC[c, c] / n) if n else None for c, n in enumerate(n_C)]


def one_class(confusion_CC: Integers) -> int | None:
    """Return the class that the model calls nearly everyone of at least two classes; None if there is none.

    More than `NEARLY_EVERYBODY` of that class are recognised, and less than `NEARLY_NOBODY` of every other one.
    """
    found = {c: share for c, share in enumerate(recalls(confusion_CC)) if share is not None}
    top = max(found, key=lambda c: found[c], default=None)
    if top is None or len(found) < 2 or found[top] <= NEARLY_EVERYBODY:
        return None
    return top if all(share < NEARLY_NOBODY for c, share in found.items() if c != top) else None
