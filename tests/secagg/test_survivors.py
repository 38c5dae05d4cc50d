"""What a coordinator may ask to be opened: one list of survivors, and of each site one kind of share."""

import pytest

from remind.secagg.coordinator import SecureSum
from remind.secagg.limits import RefusedError
from tests.secagg.consortium import SHARED, is_noise, plain, some_values, started


def test_a_survivor_that_is_called_lost_stays_masked(five):
    total, values, blocks = started(five)
    victim = five.names[0]
    answer = total._beside.pop(victim)
    masked_sum = total._sums[SHARED].copy()
    for name, ask in total.share_requests().items():
        total.add_shares(name, five.sites[name].open(ask))
    sums, withheld = total.result()
    expected = plain(blocks, values, five.names[1:])[SHARED]
    assert not withheld
    assert is_noise(sums[SHARED], expected)
    assert answer.commitments
    assert is_noise(masked_sum, expected)
    again = SecureSum(five.book, five.deals, total.plans, total.lengths)
    again._beside = {**total._beside, victim: answer}
    for name, ask in again.share_requests().items():
        if name != victim:
            with pytest.raises(RefusedError, match="for other survivors"):
                five.sites[name].open(ask)


def test_both_kinds_of_share_of_one_site_are_refused(five):
    total, _, _ = started(five)
    name = five.names[1]
    ask = total.share_requests()[name]
    box = five.deals["site-00"][name]
    with pytest.raises(RefusedError, match="both kinds"):
        five.sites[name].open(ask.model_copy(update={"secrets": {"site-00": box}}))
    assert not five.sites[name].state.survivors


def test_boxes_that_do_not_fit_the_list_are_refused(five):
    total, _, _ = started(five)
    name = five.names[1]
    ask = total.share_requests()[name]
    with pytest.raises(RefusedError, match="one box of each survivor"):
        five.sites[name].open(ask.model_copy(update={"seeds": dict(list(ask.seeds.items())[1:])}))
    with pytest.raises(RefusedError, match="of an unknown site"):
        five.sites[name].open(ask.model_copy(update={"secrets": {"nobody": "00"}}))


def test_a_second_unmasking_with_other_survivors_is_refused_and_the_same_again_is_not(five):
    total, _, _ = started(five)
    name = five.names[1]
    ask = total.share_requests()[name]
    first = five.sites[name].open(ask)
    assert five.sites[name].open(ask) == first
    fewer = {k: v for k, v in ask.seeds.items() if k != "site-04"}
    other = ask.model_copy(
        update={"survivors": five.names[:4], "seeds": fewer, "secrets": {"site-04": five.deals["site-04"][name]}}
    )
    with pytest.raises(RefusedError, match="for other survivors"):
        five.sites[name].open(other)


def test_too_few_survivors_and_strangers_are_refused(five):
    total, _, _ = started(five)
    name = five.names[1]
    ask = total.share_requests()[name]
    with pytest.raises(RefusedError, match="3 of 5 sites answered; unmasking a sum needs 4"):
        five.sites[name].open(ask.model_copy(update={"survivors": five.names[:3]}))
    with pytest.raises(RefusedError, match="a site that is not in this run"):
        five.sites[name].open(ask.model_copy(update={"survivors": (*five.names, "stranger")}))
    with pytest.raises(RefusedError, match="did not answer"):
        five.sites[name].open(ask.model_copy(update={"survivors": five.names[2:]}))


def test_a_site_that_did_not_answer_opens_nothing(five):
    total, _, _ = started(five)
    ask = total.share_requests()["site-01"]
    with pytest.raises(RefusedError, match="did not answer in slot 1"):
        five.sites["site-01"].open(ask.model_copy(update={"slot": 1}))


def test_shares_of_another_slot_or_for_another_reader_do_not_open(five):
    blocks = {SHARED: five.names}
    values = some_values(five.names, blocks)
    total, _, _ = started(five)
    plans = {name: five.plan(name, blocks, slot=1) for name in five.names}
    later = five.sum(plans, values)
    for name in five.names:
        five.answer(later, plans[name], name, values)
    ask, before = later.share_requests()["site-01"], total.share_requests()
    replayed = ask.seeds | {
        "site-02": before["site-01"].seeds["site-02"],
        "site-03": before["site-00"].seeds["site-03"],
    }
    opened_ = five.sites["site-01"].open(ask.model_copy(update={"seeds": replayed}))
    assert opened_.unreadable == ("site-02", "site-03")
    assert opened_.seeds[SHARED].keys() == {"site-00", "site-01", "site-04"}
