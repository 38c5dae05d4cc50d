"""Mean and standard deviation without the outermost 1 % at each end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.encoders.standardise import moments


@given(seed=st.integers(0, 10**6), number=st.integers(5, 1000))
def test_equals_the_values_but_the_outermost(seed, number):
    values = np.random.default_rng(seed).normal(5.0, 3.0, size=number)
    cut = number // 100
    inner = np.sort(values)[cut : number - cut]
    assert moments(np.random.default_rng(seed).permutation(values)) == pytest.approx((inner.mean(), inner.std()))


def test_a_slip_of_the_pen_moves_nothing():
    ph = np.random.default_rng(0).normal(7.4, 0.1, size=500)
    mean, std = moments(np.append(ph, [735.0, 0.0]))
    assert mean == pytest.approx(7.4, abs=0.02)
    assert std == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 100])
def test_constant_values(number):
    value = float(np.float32(36.6))
    mean, deviation = moments(np.full(number, value))
    assert mean == pytest.approx(value)
    assert deviation == 1.0


def test_a_rare_flag_keeps_its_spread():
    flags = np.zeros(1000)
    flags[:3] = 1.0
    assert moments(flags) == pytest.approx((0.003, flags.std()))


def test_nothing_seen():
    assert moments(np.array([])) == (0.0, 1.0)


@given(values=st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_always_usable(values):
    mean, std = moments(np.array(values))
    assert np.isfinite(mean)
    assert std > 0
