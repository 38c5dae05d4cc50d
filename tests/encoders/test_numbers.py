"""Normal scores against ranks, and periodic features by hand."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from remind.encoders.numbers import EDGE, KNOTS, Periodic, knots, normal_scores

TOP = math.sqrt(2) * torch.erfinv(torch.tensor(1 - 2 * EDGE, dtype=torch.float64)).item()


def scores(value_N, at):
    knot_FQ = torch.from_numpy(knots(np.asarray(value_N, dtype=np.float64)))[None]
    return normal_scores(torch.tensor(at, dtype=torch.float64)[:, None], knot_FQ)[:, 0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.lists(st.floats(-1e7, 1e7), min_size=2, max_size=9))
def test_scores_rise_with_the_value_and_are_bounded(value_N, at):
    found = scores(value_N, sorted(at))
    assert (found.diff() >= -1e-6).all()
    assert found.abs().max() <= TOP + 1e-6


def test_normal_values_keep_their_scores():
    value_N = np.random.default_rng(0).normal(3, 2, size=20000)
    found = scores(value_N, [3.0, 5.0, 1.0, 3.0 + 2 * 1.5])
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, -1.0, 1.5]).double(), rtol=0, atol=0.06)


def test_values_that_many_share_have_their_mean_rank():
    found = scores([0.0] * 50 + [1.0] * 50, [0.0, 1.0, 0.5, math.nan])
    assert found[0] == -found[1]
    assert -1 < found[0] < -0.3
    assert found[0] < found[2] < found[1]
    assert found[3].isnan()
    assert scores([7.0] * 9, [7.0])[0].abs() < 1e-9
    assert torch.isfinite(scores([], [5.0, -5.0])).all()


def test_periodic_by_hand():
    made = Periodic(2, 1).double()
    with torch.no_grad():
        made.frequency_FK.copy_(torch.tensor([[0.25], [0.5]]))
    found = made(torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0], [0.0, -1.0]]]).double())
    assert KNOTS % 2 == 1
