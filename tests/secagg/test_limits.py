"""How many hospitals are in a sum for sure: against every way in which a coordinator could spread its lies."""

import itertools

import pytest

from remind.secagg.limits import FEWEST, least_honest, min_survivors, threshold


def removable(observers, sites, colluding):
    """The most honest observers that a lying coordinator can take out of a sum, by trying it."""
    t, m = threshold(sites), min_survivors(observers, sites)
    lost = max(0, min(observers - m, sites - t))  # observers that each honest site believes to be lost, at most
    honest, victims = sites - colluding, range(observers - colluding)
    for number in reversed(range(1, len(victims) + 1)):
        # Each victim needs t − c honest sites that believe it is lost; beliefs go round in turn.
        beliefs = [0] * honest
        turn = itertools.cycle(range(honest))
        for _ in range(number * (t - colluding)):
            beliefs[next(turn)] += 1
        if max(beliefs) <= lost:
            return number
    return 0


@pytest.mark.parametrize("colluding", [0, 1, 2])
def test_no_spread_of_lies_leaves_fewer_honest_hospitals(colluding):
    for sites in range(3, 21):
        if colluding >= 2 * threshold(sites) - sites:
            assert least_honest(sites, sites, colluding) == 0
            continue
        for observers in range(max(FEWEST, colluding + 1), sites + 1):
            left = observers - colluding - removable(observers, sites, colluding)
            assert least_honest(observers, sites, colluding) == left, (sites, observers)


def test_one_that_colludes_leaves_noise_in_every_block():
    assert all(least_honest(o, s, 1) >= 1 for s in range(3, 60) for o in range(3, s + 1))
    assert [least_honest(s, s, 1) for s in (3, 4, 5, 8, 20)] == [2, 2, 3, 5, 11]  # as docs/privacy.md says
