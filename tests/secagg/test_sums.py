"""A sum under masks is the plain sum, word by word, for any lost site; one loss too many and there is none."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.secagg.coordinator import TooFewError
from remind.secagg.limits import min_survivors, threshold
from tests.builders.secagg_parties import SHARED, Consortium, plain, same, some_values


@cache
def dealt(number):
    """So many sites whose keys are dealt; a test takes them as they were then, by `again`."""
    return Consortium(number, slots=1)


def blocks_of(names, rng):
    """The shared block, and blocks of some of the sites."""
    found = {SHARED: names}
    for k in range(3 if len(names) < 20 else 1):  # shares take a square of the sites
        number = int(rng.integers(3, len(names) + 1))
        found[f"group:{k + 1}"] = tuple(sorted(rng.choice(names, number, replace=False).tolist()))
    return found


@pytest.mark.parametrize("number", [3, 5, 20])
@pytest.mark.parametrize("phase", ["answer", "opening", "both"])
def test_as_many_drops_as_are_tolerated_leave_the_exact_sum(number, phase):
    rng = np.random.default_rng(number)
    consortium = dealt(number).again()
    names, tolerated = consortium.names, number - threshold(number)
    blocks = blocks_of(names, rng)
    values = some_values(names, blocks)
    lost = rng.choice(names, tolerated, replace=False).tolist()
    silent = {"answer": lost, "opening": [], "both": lost[::2]}[phase]
    mute = {"answer": [], "opening": lost, "both": lost[1::2]}[phase]
    sums, withheld = consortium.aggregated(blocks, values, silent, mute)
    here = [name for name in names if name not in silent]
    expected = plain(blocks, values, here)
    assert SHARED in sums
    assert sums.keys() | withheld.keys() == blocks.keys()
    for block, observers in blocks.items():
        enough = sum(name in here for name in observers) >= min_survivors(len(observers), number)
        assert (block in sums) == enough, block
        if enough:
            assert same(sums[block], expected[block])


@pytest.mark.parametrize("silent", [(), ("site-01",)])
def test_a_site_that_dealt_nothing_is_in_no_sum_and_stops_none(silent):
    consortium = dealt(7).again()
    del consortium.deals["site-03"]
    names = tuple(name for name in consortium.names if name != "site-03")
    blocks = {SHARED: names, "group:3": names[:3]}
    values = some_values(names, blocks)
    plans = {name: consortium.plan(name, blocks) for name in names}
    total = consortium.sum(plans, values)
    here = [name for name in names if name not in silent]
    for name in here:
        consortium.answer(total, plans[name], name, values)
    for name, ask in total.share_requests().items():
        assert ask.secrets.keys() == set(silent)
        total.add_shares(name, consortium.sites[name].open(ask))
    sums, _ = total.result()
    assert same(sums[SHARED], plain(blocks, values, here)[SHARED])


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.sets(st.integers(0, 4), max_size=1), st.sets(st.integers(0, 4), max_size=1))
def test_any_values_and_any_loss_of_five(seed, silent, mute):
    consortium = dealt(5).again()
    names = consortium.names
    blocks = {SHARED: names, "group:3": names[:3], "group:5": names[1:]}
    values = some_values(names, blocks, seed)
    gone = {names[i] for i in silent}
    quiet = {names[i] for i in mute} if not silent else set()
    sums, _ = consortium.aggregated(blocks, values, gone, quiet)
    expected = plain(blocks, values, set(names) - gone)
    assert all(same(payload, expected[block]) for block, payload in sums.items())
    assert SHARED in sums


@pytest.mark.parametrize("number", [3, 5, 20])
def test_one_drop_more_before_the_answer_and_nobody_opens_anything(number):
    consortium = dealt(number).again()
    blocks = {SHARED: consortium.names}
    values = some_values(consortium.names, blocks)
    lost = consortium.names[: number - threshold(number) + 1]
    with pytest.raises(TooFewError, match=f"{threshold(number) - 1} of {number} sites answered"):
        consortium.aggregated(blocks, values, silent=lost)
    assert not any(site.state.survivors for site in consortium.sites.values())


@pytest.mark.parametrize("number", [3, 5, 20])
def test_one_drop_more_at_the_opening_and_the_shares_give_nothing(number):
    consortium = dealt(number).again()
    blocks = {SHARED: consortium.names}
    values = some_values(consortium.names, blocks)
    lost = consortium.names[: number - threshold(number) + 1]
    with pytest.raises(TooFewError, match="sent their shares"):
        consortium.aggregated(blocks, values, mute=lost)


def test_a_block_with_too_few_survivors_is_withheld_and_the_others_are_not():
    consortium = dealt(5).again()
    names = consortium.names
    blocks = {SHARED: names, "group:1": names[:3], "group:2": names[1:4]}
    values = some_values(names, blocks)
    sums, withheld = consortium.aggregated(blocks, values, silent=names[:1])
    assert sums.keys() == {SHARED, "group:2"}
    assert "only 2 sites sent it" in withheld["group:1"]


def test_nothing_of_a_withheld_block_is_opened_by_anybody():
    consortium = dealt(5).again()
    names = consortium.names
    blocks = {SHARED: names, "group:1": names[:3]}
    values = some_values(names, blocks)
    plans = {name: consortium.plan(name, blocks) for name in names}
    total = consortium.sum(plans, values)
    for name in names[1:]:
        consortium.answer(total, plans[name], name, values)
    for name, ask in total.share_requests().items():
        opened = consortium.sites[name].open(ask)
        assert opened.withheld == ("group:1",)
        assert opened.seeds.keys() == {SHARED}


def test_the_number_that_must_survive_holds_whatever_a_coordinator_tells_whom():
    """Every way to tell each site of losses: no observer falls out of the sum that would leave too few in it."""
    for sites in range(3, 9):
        t = threshold(sites)
        for observers in range(3, sites + 1):
            least = min_survivors(observers, sites)
            if least > observers:
                continue
            most_claims = sites * (observers - least)
            out = max(n for n in range(observers + 1) if n * t <= most_claims)
            assert observers - out >= 3
    assert [min_survivors(o, 20) for o in (3, 4, 5, 6, 7)] == [3, 3, 3, 4, 4]
