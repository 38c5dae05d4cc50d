"""What only one site is told is refused, or turns the sum into noise."""

import pytest

from remind.secagg.codec import Payload
from remind.secagg.limits import RefusedError
from remind.secagg.plan import Part, Plan
from tests.builders.secagg_parties import SHARED, is_noise, opened, plain, started


@pytest.mark.parametrize(
    "lie",
    [
        {SHARED: "digest of another model"},
        {"group:3": "another weight or count of the group's patients"},
        {"common": "another round or stage"},
    ],
    ids=["model", "weight", "stage"],
)
def test_what_only_one_site_is_told_turns_the_sum_into_noise(five, lie):
    blocks = {SHARED: five.names, "group:3": five.names[:4]}
    liar = five.names[1]
    total, values, _ = started(five, blocks, {liar: five.plan(liar, blocks, **lie)})
    sums, _ = opened(five, total)
    expected = plain(blocks, values, five.names)
    assert all(is_noise(sums[block], expected[block]) for block in blocks)
    alone = plain(blocks, values, [liar])
    assert all(is_noise(sums[block], alone[block]) for block in blocks)


def test_another_list_of_sites_for_one_of_them_turns_the_sum_into_noise(five):
    liar = five.names[2]
    other = Plan(0, "round 1", "q", {SHARED: Part(five.names[:4], "digest of shared")})
    total, values, blocks = started(five, told={liar: other})
    sums, withheld = opened(five, total)
    assert withheld.keys() == {SHARED} or is_noise(sums[SHARED], plain(blocks, values, five.names)[SHARED])


@pytest.mark.parametrize(
    ("observers", "why"),
    [
        (("site-00", "site-01"), "2 sites"),
        (("site-01", "site-02", "site-03"), "not among"),
        (("site-00", "site-01", "stranger"), "names a site that is not in this run"),
        (("site-00", "site-02", "site-01"), "is not sorted"),
        (("site-00", "site-00", "site-01"), "is not sorted"),
    ],
)
def test_a_wrong_list_of_sites_is_refused(five, observers, why):
    plan = Plan(0, "round 1", "q", {SHARED: Part(observers, "d")})
    with pytest.raises(RefusedError, match=why):
        five.sites["site-00"].mask(plan, {SHARED: Payload.zeros((2, 2))})
    assert not five.sites["site-00"].state.asked


def test_keys_of_a_slot_are_used_for_one_question_alone(five):
    total, values, blocks = started(five)
    name = five.names[0]
    with pytest.raises(RefusedError, match="used for another question"):
        five.answer(total, five.plan(name, blocks, question="another"), name, values)


def test_a_slot_without_keys_is_refused(five):
    name = five.names[0]
    with pytest.raises(RefusedError, match="no keys for slot 2"):
        five.sites[name].mask(five.plan(name, {SHARED: five.names}, slot=2), {SHARED: Payload.zeros((2, 2))})
