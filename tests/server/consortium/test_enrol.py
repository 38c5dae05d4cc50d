"""Enrolling and revoking hospitals; a refusal changes nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from remind.errors import UserError
from remind_server.consortium.enrol import enrol, listed, repair, revoke, strangers
from remind_server.consortium.flower import Node
from remind_server.consortium.ledger import read_ledger, write_ledger


def yes(request):
    """The fingerprint is right."""


def let_in(folder, registry, *hospitals):
    return [enrol(folder, registry, hospital.request(), yes) for hospital in hospitals]


def refused(folder, registry, text, said, **options):
    before = folder.ledger.read_bytes() if folder.ledger.exists() else None, registry.nodes()
    with pytest.raises(UserError, match=said) as caught:
        enrol(folder, registry, text, yes, **options)
    assert (folder.ledger.read_bytes() if folder.ledger.exists() else None, registry.nodes()) == before
    return str(caught.value)


def test_a_hospital_joins(folder, registry, hospital):
    bern = hospital("bern")
    (site,) = let_in(folder, registry, bern)
    assert registry.known[bern.public_key].node_id == site.node_id
    assert read_ledger(folder.ledger).active() == [site]
    assert folder.ledger.stat().st_mode & 0o777 == 0o600


def test_the_same_request_again(folder, registry, hospital):
    request = hospital("bern").request()
    enrol(folder, registry, request, yes)
    refused(folder, registry, request, "this request was used already")


def test_a_new_request_with_a_key_that_is_in(folder, registry, hospital):
    bern = hospital("bern")
    let_in(folder, registry, bern)
    refused(folder, registry, bern.request(), "this key is in use by site 'bern'")
    refused(folder, registry, bern.request(site="basel"), "this key is in use by site 'bern'")


@pytest.mark.parametrize("name", ["bern", "BERN"])
def test_a_name_that_is_taken(folder, registry, hospital, name):
    let_in(folder, registry, hospital("bern"))
    refused(folder, registry, hospital(name).request(), "a site 'bern' with another key exists already")


def test_a_request_to_another_consortium(folder, registry, hospital):
    refused(folder, registry, hospital("bern").request(consortium="lung"), "the request is for 'lung', this is 'heart'")


def test_a_request_that_was_changed(folder, registry, hospital):
    refused(folder, registry, hospital("bern").request().replace('"bern"', '"basel"'), "signature")


def test_a_request_that_is_old(folder, registry, hospital):
    old = datetime.now(UTC) - timedelta(days=15)
    refused(folder, registry, hospital("bern").request(created=old), "14 day")


def test_the_wrong_fingerprint(folder, registry, hospital):
    def no(request):
        raise UserError(f"not {request.fingerprint}")

    with pytest.raises(UserError, match="not SHA256:"):
        enrol(folder, registry, hospital("bern").request(), no)
    assert registry.nodes() == {}
    assert not folder.ledger.exists()


def test_nothing_is_spent_while_the_superlink_is_down(folder, registry, hospital, monkeypatch):
    def down():
        raise UserError("no SuperLink answers")

    request = hospital("bern").request()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "nodes", down)
        with pytest.raises(UserError, match="no SuperLink"):
            enrol(folder, registry, request, yes)
    enrol(folder, registry, request, yes)


@pytest.mark.parametrize("answered", [False, True])
def test_a_crash_between_ledger_and_superlink_is_finished_by_the_same_request(folder, registry, hospital, answered):
    bern = hospital("bern")
    request = bern.request()
    if answered:
        registry.fail_after = "register"
    else:
        registry.register = lambda *_: (_ for _ in ()).throw(ConnectionError("lost"))
    with pytest.raises(ConnectionError):
        enrol(folder, registry, request, yes)
    if not answered:
        del registry.register
    refused(folder, registry, bern.request(), "in use")
    assert enrol(folder, registry, request, yes).node_id == registry.known[bern.public_key].node_id
    refused(folder, registry, request, "used already")


def test_revoking_touches_nobody_else(folder, registry, hospital):
    bern, basel = hospital("bern"), hospital("basel")
    _, other = let_in(folder, registry, bern, basel)
    revoke(folder, registry, "bern")
    assert read_ledger(folder.ledger).active() == [other]
    assert {key: node.status for key, node in registry.known.items()} == {
        bern.public_key: "unregistered",
        basel.public_key: "registered",
    }


def test_a_revoked_key_never_comes_back_but_the_hospital_may(folder, registry, hospital):
    bern, again = hospital("bern"), hospital("bern")
    let_in(folder, registry, bern)
    revoke(folder, registry, "bern")
    refused(folder, registry, bern.request(), "cannot come back")
    refused(folder, registry, bern.request(site="basel"), "cannot come back")
    (site,) = let_in(folder, registry, again)
    assert [s.name for s in read_ledger(folder.ledger).sites] == ["bern", "bern"]
    assert read_ledger(folder.ledger).active() == [site]


def test_a_revocation_killed_half_way_may_be_repeated(folder, registry, hospital):
    bern = hospital("bern")
    (site,) = let_in(folder, registry, bern)
    registry.unregister(site.node_id)
    assert revoke(folder, registry, "bern").revoked


def test_revoking_nobody(folder, registry, hospital):
    let_in(folder, registry, hospital("bern"))
    with pytest.raises(UserError, match=r"no site 'basel' .* its sites are: bern"):
        revoke(folder, registry, "basel")


def test_a_lost_database_is_repaired_without_the_revoked(folder, registry, hospital):
    bern, basel = hospital("bern"), hospital("basel")
    let_in(folder, registry, bern, basel)
    revoke(folder, registry, "basel")
    registry.known.clear()
    assert [site.name for site in repair(folder, registry)] == ["bern"]
    assert set(registry.known) == {bern.public_key}
    assert read_ledger(folder.ledger).named("bern").node_id == registry.known[bern.public_key].node_id
    assert repair(folder, registry) == []


def test_list_says_what_the_superlink_knows(folder, registry, hospital):
    names = ["in", "out", "lost", "quiet"]
    hospitals = {name: hospital(name) for name in names}
    let_in(folder, registry, *hospitals.values())
    revoke(folder, registry, "out")
    seen = datetime.now(UTC)
    registry.known[hospitals["in"].public_key] = Node(1, hospitals["in"].public_key, "online", seen)
    del registry.known[hospitals["lost"].public_key]
    ledger = read_ledger(folder.ledger)
    states = {row.site.name: row.status for row in listed(ledger, registry.nodes())}
    assert states == {"in": "online", "out": "revoked", "lost": "missing", "quiet": "never seen"}
    assert listed(ledger, registry.nodes())[0].seen == seen
    assert {row.status for row in listed(ledger, None)} == {"unknown", "revoked"}


def test_a_key_let_in_past_the_ledger_is_seen(folder, registry, hospital):
    let_in(folder, registry, hospital("bern"))
    assert strangers(read_ledger(folder.ledger), registry.nodes()) == []
    eve = hospital("eve").public_key
    registry.register(eve, "eve", "")
    assert [node.public_key for node in strangers(read_ledger(folder.ledger), registry.nodes())] == [eve]


def test_two_commands_at_once(folder, registry, hospital):
    with folder.locked("ledger", "busy"):
        refused(folder, registry, hospital("bern").request(), "another `remind consortium` command")


def test_a_damaged_ledger_is_not_taken_for_an_empty_one(folder, registry, hospital):
    let_in(folder, registry, hospital("bern"))
    write_ledger(folder.ledger, read_ledger(folder.ledger))
    folder.ledger.write_bytes(folder.ledger.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged; restore"):
        enrol(folder, registry, hospital("basel").request(), yes)
