import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from remind_studies.analysis.experts import TOP, apart, top_share

USE = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 8)), elements=st.floats(0, 1))


def by_hand(use_NE):
    """Each patient's experts sorted one by one."""
    counts = [0] * use_NE.shape[1]
    for use_E in use_NE.tolist():
        best = sorted(range(len(use_E)), key=lambda e: (-use_E[e], e))[:TOP]
        for e in best:
            counts[e] += use_E[e] > 0
    return [count / len(use_NE) for count in counts]


@given(USE)
def test_shares_are_those_counted_by_hand(use_NE):
    assert top_share(use_NE).tolist() == pytest.approx(by_hand(use_NE))


@given(USE, st.randoms(use_true_random=False))
def test_the_order_of_patients_does_not_matter(use_NE, random):
    order = list(range(len(use_NE)))
    random.shuffle(order)
    assert top_share(use_NE[order]).tolist() == top_share(use_NE).tolist()


def test_who_needs_no_expert_has_no_top():
    assert top_share(np.zeros((2, 5))).tolist() == [0] * 5


def test_distance_between_groups():
    same, other = np.array([1, 1, 1, 0, 0, 0.0]), np.array([0, 0, 0, 1, 1, 1.0])
    assert apart({1: same, 2: same}) == 0
    assert apart({1: same, 2: other}) == pytest.approx(1)
    assert apart({1: same, 2: np.array([0, 1, 1, 1, 0, 0.0])}) == pytest.approx(1 / 3)
    assert apart({1: same, 2: same, 3: other}) == pytest.approx(2 / 3)
    assert apart({1: same}) is None
    assert apart({1: same, 2: np.zeros(6)}) is None
