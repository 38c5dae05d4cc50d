"""Wrong shares, boxes and forms of answers of a site are found out."""

import pytest

from remind.secagg.codec import Payload
from remind.secagg.coordinator import deal_problem
from tests.builders.secagg_parties import SHARED, plain, same, some_values, started


def test_a_wrong_share_is_left_out_where_enough_right_ones_are_there(five):
    total, values, blocks = started(five)
    for name, ask in total.share_requests().items():
        found = five.sites[name].open(ask)
        if name == "site-03":
            wrong = {b: dict.fromkeys(shares, "00" * 16) for b, shares in found.seeds.items()}
            found = found.model_copy(update={"seeds": wrong})
        total.add_shares(name, found)
    sums, _ = total.result()
    assert same(sums[SHARED], plain(blocks, values, five.names)[SHARED])


def test_too_many_wrong_shares_withhold_the_block(five):
    total, _, _ = started(five)
    for name, ask in total.share_requests().items():
        found = five.sites[name].open(ask)
        if name in five.names[2:4]:
            wrong = {b: dict.fromkeys(shares, "00" * 16) for b, shares in found.seeds.items()}
            found = found.model_copy(update={"seeds": wrong})
        total.add_shares(name, found)
    sums, withheld = total.result()
    assert not sums
    assert "give the secret" in withheld[SHARED]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"slot": 1}, "answers slot 1, expected 0"),
        ({"lengths": {SHARED: (6, 3)}}, "other lengths"),
        ({"lengths": {SHARED: (7, 3), "group:1": (1, 1)}}, "not the requested ones"),
        ({"boxes": {}}, "one box of shares for each site"),
        ({"commitments": {}}, "one box of shares for each site"),
    ],
)
def test_an_answer_of_another_form_is_named(five, change, why):
    blocks = {SHARED: five.names}
    values = some_values(five.names, blocks)
    plans = {name: five.plan(name, blocks) for name in five.names}
    total = five.sum(plans, values)
    beside, _ = five.sites["site-00"].mask(plans["site-00"], {SHARED: Payload.of(*values["site-00"][SHARED], 5)})
    assert total.problem("site-00", beside) == ""
    assert why in total.problem("site-00", beside.model_copy(update=change))


def test_a_deal_of_another_form_is_named(five):
    good = five.deals["site-00"]
    assert deal_problem(five.book, good) == ""
    assert deal_problem(five.book, dict(list(good.items())[1:]))
    assert deal_problem(five.book, {**good, "site-01": good["site-01"][2:]})


def test_boxes_of_garbage_are_unreadable_and_harm_nobody_else(five):
    total, _, _ = started(five)
    ask = total.share_requests()["site-01"]
    found = five.sites["site-01"].open(ask.model_copy(update={"seeds": {**ask.seeds, "site-02": "abcd"}}))
    assert found.unreadable == ("site-02",)
    assert found.seeds[SHARED].keys() == set(five.names) - {"site-02"}
