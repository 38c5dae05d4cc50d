"""Each lie of a coordinator is refused by the sites, or leaves it with noise; wrong shares of a site are found out."""

import json

import numpy as np
import pytest

from remind.secagg.book import Book
from remind.secagg.codec import STATISTICS, TENSORS, Payload
from remind.secagg.coordinator import SecureSum, deal_problem
from remind.secagg.limits import RefusedError
from remind.secagg.pairs import commitment
from remind.secagg.plan import Part, Plan
from remind.secagg.site import SecureSite
from remind.secagg.slot_messages import MaskedHeader, ShareRequest
from tests.secagg.consortium import SHARED, TERMS, Consortium, enrolled, plain, same, some_values


@pytest.fixture(scope="module")
def dealt():
    """Five sites whose keys are dealt; each test uses a slot of its own or copies of the sites."""
    return Consortium(5, slots=2)


@pytest.fixture
def five(dealt):
    """The same five sites, as they are before the first slot."""
    fresh = Consortium(5, slots=2, deal=False)
    fresh.sites = {name: SecureSite(site.state) for name, site in dealt.sites.items()}
    fresh.book, fresh.roster, fresh.deals = dealt.book, dealt.roster, dealt.deals
    return fresh


def started(five, blocks=None, told=None):
    """A slot in which all five have answered; `told`: what one site was told instead."""
    blocks = blocks or {SHARED: five.names}
    values = some_values(five.names, blocks)
    plans = {name: five.plan(name, blocks) for name in five.names}
    total = five.sum(plans, values)
    for name in five.names:
        five.answer(total, (told or {}).get(name, plans[name]), name, values)
    return total, values, blocks


def opened(five, total):
    """The sums, with the shares of everybody."""
    for name, ask in total.asks().items():
        total.take(name, five.sites[name].open(ask))
    return total.result()


def is_noise(payload, expected):
    """Whether a sum has nothing to do with the true one."""
    return (
        np.mean(payload.tensors == expected.tensors) < 0.1 and np.mean(payload.statistics == expected.statistics) < 0.1
    )


# What one site is told, another one is not


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


# Keys


def swapped(book, site, keys):
    """The book with other keys for one site."""
    return Book(sites=tuple(keys if one.site == site else one for one in book.sites))


def impostor(name, run="run-1", terms=TERMS, slots=2):
    """Keys that the coordinator made and signed with a key of its own."""
    return SecureSite.create(run, name, terms, slots, enrolled("the coordinator")).state.keys


def test_the_coordinator_cannot_stand_in_for_a_site():
    three = Consortium(3, slots=1, deal=False)
    book = swapped(three.book, "site-02", impostor("site-02", slots=1))
    with pytest.raises(RefusedError, match="roster does not list site-02 with that key"):
        three.sites["site-00"].deal(book, three.roster)


def test_keys_under_a_true_name_but_with_another_signature_are_refused():
    three = Consortium(3, slots=1, deal=False)
    false = impostor("site-02", slots=1).model_copy(update={"public_key": three.roster["site-02"]})
    with pytest.raises(RefusedError, match="not signed by its enrolled key"):
        three.sites["site-00"].deal(swapped(three.book, "site-02", false), three.roster)


@pytest.mark.parametrize("change", [{"masks": "00" * 32}, {"channel": "11" * 32}])
def test_one_changed_key_breaks_the_signature(change):
    three = Consortium(3, slots=1, deal=False)
    false = three.book.by_name["site-02"].model_copy(update=change)
    with pytest.raises(RefusedError, match="not signed"):
        three.sites["site-00"].deal(swapped(three.book, "site-02", false), three.roster)


@pytest.mark.parametrize("field", ["run", "terms"])
def test_keys_of_another_run_or_of_other_settings_are_refused(field):
    three, before = Consortium(3, slots=1, deal=False), {"run": "run-0", "terms": "cd" * 32}
    own = {"run": "run-1", "terms": TERMS} | {field: before[field]}
    old = SecureSite.create(own["run"], "site-02", own["terms"], 1, enrolled("site-02")).state.keys
    with pytest.raises(RefusedError, match="belong to another run, or to other settings"):
        three.sites["site-00"].deal(swapped(three.book, "site-02", old), three.roster)


def test_another_site_with_this_sites_name_is_refused():
    three = Consortium(3, slots=1, deal=False)
    again = SecureSite.create("run-1", "site-00", TERMS, 1, enrolled("site-00")).state.keys
    with pytest.raises(RefusedError, match="not the keys that it published"):
        three.sites["site-00"].deal(swapped(three.book, "site-00", again), three.roster)


def test_one_key_for_two_sites_is_refused_without_a_roster_too():
    three = Consortium(3, slots=1, deal=False)
    one = three.book.by_name["site-01"]
    secrets = three.sites["site-01"]._secrets
    twin = secrets.publish("run-1", "site-02", TERMS, 1, enrolled("site-02"))
    assert twin.channel == one.channel
    with pytest.raises(RefusedError, match="same key"):
        three.sites["site-00"].deal(swapped(three.book, "site-02", twin), None)


def test_too_few_sites_and_sites_out_of_order_are_refused():
    three = Consortium(3, slots=1, deal=False)
    with pytest.raises(RefusedError, match="2 sites"):
        three.sites["site-00"].deal(Book(sites=three.book.sites[:2]), three.roster)
    with pytest.raises(RefusedError, match="not sorted"):
        three.sites["site-00"].deal(Book(sites=three.book.sites[::-1]), three.roster)


def test_the_first_book_stays(five):
    site = five.sites["site-00"]
    assert site.deal(five.book, five.roster) == five.deals["site-00"]
    with pytest.raises(RefusedError, match="another key book"):
        site.deal(Book(sites=five.book.sites[:4]), five.roster)


def test_sites_that_were_shown_different_books_open_nothing_of_each_other():
    four = Consortium(4, slots=1, deal=False)
    small = Book(sites=four.book.sites[:3])
    shown = dict.fromkeys(four.names, four.book) | {"site-00": small}
    four.deals = {name: four.sites[name].deal(shown[name], four.roster) for name in four.names}
    blocks = {SHARED: four.names[:3]}
    values = some_values(four.names[:3], blocks)
    answers = {}
    for name in four.names[:3]:
        payload = {SHARED: Payload.of(*values[name][SHARED], 4)}
        answers[name], _ = four.sites[name].mask(four.plan(name, blocks), payload)
    ask = ShareRequest(
        slot=0,
        survivors=four.names[:3],
        seeds={name: answers[name].boxes["site-01"] for name in four.names[:3]},
        secrets={"site-03": four.deals["site-03"]["site-01"]},
    )
    assert four.sites["site-01"].open(ask).unreadable == ("site-00",)


# Who survived


def test_a_survivor_that_is_called_lost_stays_masked(five):
    total, values, blocks = started(five)
    victim = five.names[0]
    answer = total._beside.pop(victim)
    masked_sum = total._sums[SHARED].copy()
    for name, ask in total.asks().items():
        total.take(name, five.sites[name].open(ask))
    sums, withheld = total.result()
    expected = plain(blocks, values, five.names[1:])[SHARED]
    assert not withheld
    assert is_noise(sums[SHARED], expected)
    assert answer.commitments
    assert is_noise(masked_sum, expected)
    again = SecureSum(five.book, five.deals, total.plans, total.lengths)
    again._beside = {**total._beside, victim: answer}
    for name, ask in again.asks().items():
        if name != victim:
            with pytest.raises(RefusedError, match="for other survivors"):
                five.sites[name].open(ask)


def test_both_kinds_of_share_of_one_site_are_refused(five):
    total, _, _ = started(five)
    name = five.names[1]
    ask = total.asks()[name]
    box = five.deals["site-00"][name]
    with pytest.raises(RefusedError, match="both kinds"):
        five.sites[name].open(ask.model_copy(update={"secrets": {"site-00": box}}))
    assert not five.sites[name].state.survivors


def test_boxes_that_do_not_fit_the_list_are_refused(five):
    total, _, _ = started(five)
    name = five.names[1]
    ask = total.asks()[name]
    with pytest.raises(RefusedError, match="of the kind that its answer requires"):
        five.sites[name].open(ask.model_copy(update={"seeds": dict(list(ask.seeds.items())[1:])}))


def test_a_second_unmasking_with_other_survivors_is_refused_and_the_same_again_is_not(five):
    total, _, _ = started(five)
    name = five.names[1]
    ask = total.asks()[name]
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
    ask = total.asks()[name]
    with pytest.raises(RefusedError, match="3 of 5 sites answered; unmasking a sum needs 4"):
        five.sites[name].open(ask.model_copy(update={"survivors": five.names[:3]}))
    with pytest.raises(RefusedError, match="a site that is not in this run"):
        five.sites[name].open(ask.model_copy(update={"survivors": (*five.names, "stranger")}))
    with pytest.raises(RefusedError, match="did not answer"):
        five.sites[name].open(ask.model_copy(update={"survivors": five.names[2:]}))


def test_a_site_that_did_not_answer_opens_nothing(five):
    total, _, _ = started(five)
    ask = total.asks()["site-01"]
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
    ask, before = later.asks()["site-01"], total.asks()
    replayed = ask.seeds | {
        "site-02": before["site-01"].seeds["site-02"],
        "site-03": before["site-00"].seeds["site-03"],
    }
    opened_ = five.sites["site-01"].open(ask.model_copy(update={"seeds": replayed}))
    assert opened_.unreadable == ("site-02", "site-03")
    assert opened_.seeds[SHARED].keys() == {"site-00", "site-01", "site-04"}


# What a site may send wrong


def test_a_wrong_share_is_left_out_where_enough_right_ones_are_there(five):
    total, values, blocks = started(five)
    for name, ask in total.asks().items():
        found = five.sites[name].open(ask)
        if name == "site-03":
            wrong = {b: dict.fromkeys(shares, "00" * 16) for b, shares in found.seeds.items()}
            found = found.model_copy(update={"seeds": wrong})
        total.take(name, found)
    sums, _ = total.result()
    assert same(sums[SHARED], plain(blocks, values, five.names)[SHARED])


def test_too_many_wrong_shares_withhold_the_block(five):
    total, _, _ = started(five)
    for name, ask in total.asks().items():
        found = five.sites[name].open(ask)
        if name in five.names[2:4]:
            wrong = {b: dict.fromkeys(shares, "00" * 16) for b, shares in found.seeds.items()}
            found = found.model_copy(update={"seeds": wrong})
        total.take(name, found)
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
    ask = total.asks()["site-01"]
    found = five.sites["site-01"].open(ask.model_copy(update={"seeds": {**ask.seeds, "site-02": "abcd"}}))
    assert found.unreadable == ("site-02",)
    assert found.seeds[SHARED].keys() == set(five.names) - {"site-02"}


# What lies on the wire


def test_masked_words_are_uniform_whatever_the_numbers_are():
    """Chi-square of the bytes, and of the difference between masked zeros and masked large numbers."""
    width = 20_000
    for tensors, statistics in ((np.zeros(width), np.zeros(50)), (np.full(width, 5.0), np.full(50, 1e6))):
        three = Consortium(3, slots=1)
        plan = three.plan("site-00", {SHARED: three.names})
        _, masked = three.sites["site-00"].mask(plan, {SHARED: Payload.of(tensors, statistics, 3)})
        counts = np.bincount(masked[SHARED].to_bytes(), minlength=256)
        expected = counts.sum() / 256
        assert np.sum((counts - expected) ** 2 / expected) < 350  # 255 degrees of freedom: mean 255, sd 22.6


def test_the_same_question_gives_the_same_masked_words_and_another_site_none_of_them(five):
    values = some_values(five.names, {SHARED: five.names})
    payload = {SHARED: Payload.of(*values["site-00"][SHARED], 5)}
    plan = five.plan("site-00", {SHARED: five.names})
    _, first = five.sites["site-00"].mask(plan, payload)
    _, again = SecureSite(five.sites["site-00"].state).mask(plan, payload)
    assert same(first[SHARED], again[SHARED])
    other = five.plan("site-00", {SHARED: five.names}, question="another")
    _, differently = SecureSite(five.sites["site-00"].state.model_copy(update={"asked": {}})).mask(other, payload)
    assert not np.any(first[SHARED].tensors == differently[SHARED].tensors)


def test_a_state_that_was_kept_goes_on_as_before(five):
    text = five.sites["site-00"].state.model_dump_json()
    back = type(five.sites["site-00"].state).model_validate_json(text)
    assert back == five.sites["site-00"].state
    assert json.loads(text)["root"] not in json.dumps(five.deals)


def test_what_is_promised_is_kept_before_it_is_answered(five):
    kept = []
    site = SecureSite(five.sites["site-00"].state, kept.append)
    site.mask(five.plan("site-00", {SHARED: five.names}), {SHARED: Payload.zeros((1, 1))})
    assert kept[-1].asked == {0: "question to site-00"}


def test_a_commitment_is_of_one_block():
    assert commitment(b"s" * 16, "a") != commitment(b"s" * 16, "b")


def test_beside_a_masked_block_lie_lengths_commitments_and_boxes_alone():
    assert set(MaskedHeader.model_fields) == {"slot", "lengths", "commitments", "boxes"}
    assert TENSORS.step < 1e-7
    assert STATISTICS.step < 1e-9
