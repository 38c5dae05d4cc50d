"""Curves over a threshold against a slow count of patients."""

import numpy as np
import pytest

from remind.metrics.formulas import auroc
from remind.metrics.histograms import histograms
from remind.metrics.ranges import begins, bin_from, counted, lower_ends, points


def made(n, seed, spread=1.5):
    """Log-odds and labels of n patients, and their histogram."""
    rng = np.random.default_rng(seed)
    label_B = (rng.random(n) < 0.3).astype(np.int64)
    odds_B = rng.normal(size=n) * spread + label_B
    log_p_BC = -np.logaddexp(0, np.stack([odds_B, -odds_B], axis=1))
    [placed] = histograms(log_p_BC, label_B, (1,)).placed()
    return odds_B, label_B, placed


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [5, 40, 10_000])
def test_points_are_what_thresholds_achieve(seed, most):
    odds_B, label_B, placed = made(300, seed)
    starts = begins(placed, most)
    assert len(starts) <= most
    found = points(counted(placed, starts), lower_ends(starts))
    assert (found[0].sensitivity, found[0].specificity, found[0].precision) == (0, 1, None)
    assert (found[-1].sensitivity, found[-1].specificity, found[-1].called) == (1, 0, 1)
    for point in found[1:]:
        called_B = odds_B >= point.log_odds
        assert point.sensitivity == pytest.approx(called_B[label_B == 1].mean())
        assert point.specificity == pytest.approx(1 - called_B[label_B == 0].mean())
        assert point.precision == pytest.approx(label_B[called_B].mean())
        assert point.called == pytest.approx(called_B.mean())


def test_the_area_under_the_finest_curve_is_the_auroc():
    _, _, placed = made(400, 1)
    starts = begins(placed, 10_000)
    found = points(counted(placed, starts), lower_ends(starts))
    area = np.trapezoid([p.sensitivity for p in found], [1 - p.specificity for p in found])
    assert area == pytest.approx(auroc(placed[1])[0])


@pytest.mark.parametrize("cut", [None, -1.3, 0.0, 0.7, 50.0])
@pytest.mark.parametrize("least", [1, 10, 25])
def test_no_range_is_small_and_one_begins_at_the_cut(least, cut):
    _, _, placed = made(500, 2)
    starts = begins(placed, 12, least, cut)
    counts_2R = counted(placed, starts)
    assert counts_2R.sum() == 500
    assert starts == sorted(set(starts))
    assert len(starts) <= 12
    if least > 1:
        assert counts_2R.min() >= least
    if cut is not None:
        above = placed[0] >= bin_from(cut)
        sides = [placed[1][:, above].sum(axis=1), placed[1][:, ~above].sum(axis=1)]
        allowed = all((side >= least).all() if least > 1 else side.sum() for side in sides)
        assert (bin_from(cut) in starts) == allowed


def test_one_class_has_no_curve():
    _, _, (bins_K, counts_2K) = made(50, 3)
    only = (bins_K, counts_2K * np.array([[1], [0]]))
    starts = begins(only, 10)
    assert points(counted(only, starts), lower_ends(starts)) == []
