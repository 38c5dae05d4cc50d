"""What a coordinator may ask to be opened: one list of survivors, and of each site one kind of share."""

from contextlib import nullcontext

import pytest

from remind.secagg.coordinator import SecureSum
from remind.secagg.limits import RefusedError
from remind.secagg.shares import SharesError
from tests.builders.secagg_parties import SHARED, is_noise, plain, some_values, started


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


def claimed(five, total, lost):
    """The sum as a coordinator has it that claims one site lost, of which it has the answer."""
    found = SecureSum(five.book, five.deals, total.plans, total.lengths)
    found._beside = {name: answer for name, answer in total._beside.items() if name != lost}
    found._sums = total._sums
    return found


def shares_of(total, site):
    """How many shares of a site's mask secret, and of its own mask, the coordinator has got."""
    opened = total._opened.values()
    return sum(site in o.secrets for o in opened), sum(site in o.seeds.get(SHARED, {}) for o in opened)


@pytest.mark.parametrize("believers", [0, 1, 2, 3])
def test_different_lost_sites_told_to_different_sites_open_no_answer(five, believers):
    """All five answered. Some are told that the first was lost, the others that the second was: four shares open."""
    total, values, blocks = started(five)
    one, other, *rest = five.names
    told_one = {other, *rest[:believers]}
    lies = {lost: claimed(five, total, lost) for lost in (one, other)}
    asks = {lost: lie.share_requests() for lost, lie in lies.items()}
    for name in five.names:
        opened_ = five.sites[name].open(asks[one if name in told_one else other][name])
        for sum_ in (total, *lies.values()):
            sum_._opened[name] = opened_
    assert shares_of(total, one) == (len(told_one), 5 - len(told_one))
    assert shares_of(total, other) == (5 - len(told_one), len(told_one))
    assert five.book.threshold == 4
    split = len(told_one) in (2, 3)  # else four of them were told the same, which is no lie that differs
    for lost in (one, other):
        has_secret = total._secret(lost) is not None
        with pytest.raises(SharesError) if has_secret or split else nullcontext():
            total._seed(lost, SHARED)
        assert not (split and has_secret)
    assert [total._seed(name, SHARED) is not None for name in rest] == [True] * 3, "told to be there by everybody"
    sums, withheld = total.result()
    assert withheld.keys() == {SHARED}, "the sum of all five lacks the first's own mask, or the second's"
    for lost, lie in lies.items():
        sums, withheld = lie.result()
        if split:
            assert withheld.keys() == {SHARED}
        elif sums:  # the list that four of them were told: what an honest coordinator may open
            here = [name for name in five.names if name != lost]
            assert is_noise(sums[SHARED], plain(blocks, values, here)[SHARED]), "the lost one's answer is in it"


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
