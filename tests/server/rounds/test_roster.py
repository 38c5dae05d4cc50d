"""Members of a run, refused sites, and the reasons."""

import pytest
from flwr.app import Error

from remind.data.cohort.kinds.table import TableSchema
from remind.errors import UserError
from remind.federation.flower import to_record
from remind.federation.messages import Enrol, Refusal
from remind_server.rounds import exchange as exchange_module
from remind_server.rounds.enroller import Enroller
from remind_server.rounds.roster import Roster
from remind_server.rounds.waiting import wait_for_nodes
from tests.builders.cohorts import schema
from tests.builders.configs import settings
from tests.builders.grids import FakeGrid, Node, enrolment

SCHEMA = schema()
OTHER = schema(names=("a", "b", "x"))


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(exchange_module, "PAUSE", 0.0)


def site(name="s", of=SCHEMA, counts=None, node_name="", **changes) -> Node:
    return Node(enrolment(name, of, counts or {1: 4, 3: 2}, **changes), name=node_name)


def enroller_of(*nodes: Node, min_sites=1):
    config = settings({"federation.deadline": 0.2, "federation.min-sites": min_sites})
    enroller, grid = Enroller(config, Roster(config)), FakeGrid(dict(enumerate(nodes, start=10)))
    enroller.enrol_newcomers(grid)
    return enroller, grid


def enrolled(*nodes: Node, min_sites=1):
    enroller, grid = enroller_of(*nodes, min_sites=min_sites)
    return enroller.roster, grid


def names(roster):
    return sorted(m.name for m in roster.members.values())


def test_members_counts_and_observed_groups():
    roster, grid = enrolled(site("x", counts={1: 4, 3: 2}, observed=(1, 3, 7)), site("y", counts={3: 5, 2: 1}))
    assert roster.counts() == {1: 4, 2: 1, 3: 7}
    assert list(roster.counts()) == [1, 2, 3]
    assert {m.name: m.observed for m in roster.members.values()} == {"x": {1, 3, 7}, "y": {2, 3}}
    assert [m.name for m in roster.online(grid)] == ["x", "y"]
    assert roster.refused == {}


def test_members_are_summed_by_name_whatever_the_order_of_nodes():
    roster, grid = enrolled(site("zeta"), site("alpha"), site("mid"))
    assert [m.name for m in roster.online(grid)] == ["alpha", "mid", "zeta"]
    del grid.nodes[11]
    assert [m.name for m in roster.online(grid)] == ["mid", "zeta"]


def test_the_schema_of_most_wins_and_the_difference_is_named():
    roster, _ = enrolled(site("x", of=OTHER), site("y"), site("z"))
    assert names(roster) == ["y", "z"]
    assert "another schema" in roster.refused["x"]
    assert "only the first has c" in roster.refused["x"]


def test_an_equal_vote_does_not_depend_on_order():
    first, _ = enrolled(site("x", of=OTHER), site("y"))
    second, _ = enrolled(site("y"), site("x", of=OTHER))
    assert names(first) == names(second)


def test_who_cannot_take_part_has_no_vote():
    roster, _ = enrolled(site("x", of=OTHER, version="0.0.1"), site("w", of=OTHER, version="0.0.1"), site("y"))
    assert names(roster) == ["y"]
    assert "version 0.0.1" in roster.refused["x"]
    assert "install the same" in roster.refused["w"]


def test_reasons_for_refusal():
    roster, _ = enrolled(
        site("fine"),
        Node(enrolment("empty", SCHEMA, {}, observed=(1,))),
        site("beyond", counts={8: 3}),
        site("beyond too", observed=(1, 2**40)),
        site("garbled", cohort_schema={"name": "?"}),
        Node(to_record(Refusal(reason="not this year")), name="refuser"),
        Node(to_record(Enrol(version="1")), name="parrot"),
        Node(Error(2, "boom"), name="broken"),
        Node(None, name="silent"),
    )
    assert names(roster) == ["fine"]
    assert roster.refused == {
        "empty": "no training patients",
        "beyond": "it claims groups of modalities that its schema does not have",
        "beyond too": "it claims groups of modalities that its schema does not have",
        "garbled": "its schema cannot be read: classes: Field required",
        "refuser": "not this year",
        "parrot": "it did not enrol",
        "broken": "error 2: boom",
        "silent": "no answer within 0.2 s",
    }


def test_names_are_unique_and_the_registered_one_wins():
    roster, _ = enrolled(site("s"), site("s"), site("liar", node_name="St Mary"), site("all"))
    assert names(roster) == ["St Mary", "all (13)", "s", "s (11)"], "'all' is the tables' word for every site"


def test_newcomers_join_later_and_members_are_not_asked_again():
    enroller, grid = enroller_of(site("x"))
    roster = enroller.roster
    assert enroller.enrol_newcomers(grid) == []
    grid.nodes[50] = site("late", counts={6: 1})
    assert [m.name for m in enroller.enrol_newcomers(grid)] == ["late"]
    assert roster.counts() == {1: 4, 3: 2, 6: 1}
    grid.nodes[51] = site("stranger", of=OTHER)
    assert enroller.enrol_newcomers(grid) == []
    assert "another schema" in roster.refused["stranger"], "two against one: the schema was settled at the start"
    assert [len(node.received) for node in grid.nodes.values()] == [1, 1, 1]


def test_who_did_not_answer_is_asked_again_and_who_refused_is_not():
    enroller, grid = enroller_of(site("x"), Node(None, name="slow"), Node(to_record(Refusal(reason="no")), name="no"))
    grid.nodes[11].answer = enrolment("slow", SCHEMA, {2: 2})
    assert [m.name for m in enroller.enrol_newcomers(grid)] == ["slow"]
    assert enroller.roster.refused == {"no": "no"}
    assert len(grid.nodes[12].received) == 1


def test_too_few():
    roster, _ = enrolled(site("x"), Node(to_record(Refusal(reason="no cohort")), name="y"), min_sites=2)
    with pytest.raises(UserError, match=r"1 site\(s\) take part, federation.min-sites asks for 2\n  - y: no cohort"):
        roster.require_members()
    enrolled(site("x"), site("y"), min_sites=2)[0].require_members()


def test_one_mistake_that_all_make_is_said_once():
    same = [Node(to_record(Refusal(reason="data.cohort: no folder /x")), name=str(n)) for n in range(3)]
    with pytest.raises(UserError, match=r"^data.cohort: no folder /x$"):
        enrolled(*same)[0].require_members()


def test_listing_nodes_survives_a_transport_that_fails():
    roster, grid = enrolled(site("x"))
    grid.broken = 2
    assert len(roster.online(grid)) == 1


def test_waiting_for_nodes():
    wait_for_nodes(FakeGrid({1: site()}), 1, 5.0)
    with pytest.raises(UserError, match=r"1 site\(s\) connected within 0.4 s; 3 needed"):
        wait_for_nodes(FakeGrid({1: site()}), 3, 0.4)


def test_difference_names_levels():
    changed = SCHEMA.model_copy(
        update={
            "modalities": (
                TableSchema(name="a", columns=("p", "q", "r"), categories={"q": ("lo", "mid")}),
                *SCHEMA.modalities[1:],
            )
        }
    )
    roster, _ = enrolled(site("x"), site("y"), site("z", of=changed))
    assert "a, categories of q: lo, hi against lo, mid" in roster.refused["z"]


def test_words_from_outside_are_shown_short_and_printable():
    """Of refusals, errors, versions, names of registered nodes and of what is in a schema."""
    nasty = "\x1b[31m" + "x" * 5000
    wide = schema().model_copy(update={"classes": ("c0", nasty)})
    roster, _ = enrolled(
        site("good"),
        Node(Error(2, nasty), name="a"),
        Node(to_record(Refusal(reason=nasty[:2000])), name="b"),
        site("c", of=schema(names=("a", "b", nasty)), node_name="c"),
        site("d", of=wide, node_name="d\x1b[2J"),
        min_sites=1,
    )
    assert names(roster) == ["good"]
    assert set(roster.refused) == {"a", "b", "c", "d [2J"}
    for why in roster.refused.values():
        assert why.isprintable()
        assert len(why) < 2100
    assert "does not print" in roster.refused["d [2J"]
