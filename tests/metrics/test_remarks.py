"""A model that predicts the same class for nearly all patients is named."""

import numpy as np
import pytest

from remind.metrics.remarks import one_class, recalls


@pytest.mark.parametrize(
    ("confusion", "called"),
    [
        ([[1507, 9], [267, 11]], 0),  # accuracy .846, balanced accuracy .517
        ([[3, 97], [0, 100]], 1),
        ([[90, 10], [50, 50]], None),
        ([[100, 0], [0, 100]], None),
        ([[30, 0], [0, 0]], None),  # nobody of the other class: nothing can be said
        ([[99, 1, 0], [48, 2, 0], [40, 1, 1]], 0),
        ([[99, 1, 0], [48, 2, 0], [20, 1, 21]], None),
        ([[0, 0], [0, 0]], None),
    ],
)
def test_one_class(confusion, called):
    assert one_class(np.array(confusion)) == called


def test_recalls():
    assert recalls(np.array([[3, 1], [0, 0]])) == [0.75, None]
