"""Keys that a coordinator made up, changed or took from elsewhere are refused."""

import pytest

from remind.secagg.book import Book
from remind.secagg.codec import Payload
from remind.secagg.limits import RefusedError
from remind.secagg.site import SecureSite
from remind.secagg.slot_messages import ShareRequest
from tests.builders.secagg_parties import SHARED, TERMS, Consortium, enrolled, some_values


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
