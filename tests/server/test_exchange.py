"""One exchange: order, deadline, quorum, errors, a transport that fails."""

import time

import pytest
from flwr.app import Error, RecordDict

from remind.federation.flower import from_record, to_record
from remind.federation.messages import Refusal
from remind_server import exchange as exchange_module
from remind_server.exchange import exchange
from tests.grids import FakeGrid, Node


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(exchange_module, "PAUSE", 0.0)


def words(text: str) -> RecordDict:
    return to_record(Refusal(reason=text))


def echo(message):
    """The node's own content back: whoever mixes up nodes is seen."""
    return message.content


def run(nodes: dict[int, Node], deadline=0.3, quorum=1.0, broken=0):
    grid = FakeGrid(nodes, broken)
    answers = list(exchange(grid, ((n, words(f"to {n}")) for n in nodes), "train", "7", deadline, quorum))
    return answers, grid


def told(answers):
    """Node → what it said, or the error."""
    return {a.node_id: from_record(a.record)[0].reason if a.record else a.error for a in answers}


def test_each_node_gets_its_own_record_and_answers_come_in_the_order_asked():
    nodes = {5: Node(echo, looks=3), 2: Node(echo), 9: Node(echo, looks=1)}
    answers, grid = run(nodes)
    assert [a.node_id for a in answers] == grid.pulled == [5, 2, 9]
    assert told(answers) == {5: "to 5", 2: "to 2", 9: "to 9"}
    (message,) = nodes[5].received
    assert (message.metadata.ttl, message.metadata.group_id, message.metadata.message_type) == (0.3, "7", "train")


def test_only_one_answer_is_held_at_a_time():
    """The second is not even fetched before the first was taken."""
    grid = FakeGrid({1: Node(echo), 2: Node(echo)})
    answers = exchange(grid, [(1, words("a")), (2, words("b"))], "train", "0", 1.0)
    next(answers)
    assert grid.pulled == [1]


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("quorum", [1.0, 0.99])
def test_who_does_not_answer_in_time_is_named_and_the_others_count(position, quorum):
    nodes = {n: Node(None if n == position else echo) for n in range(3)}
    began = time.monotonic()
    answers, _ = run(nodes, deadline=0.3, quorum=quorum)
    assert time.monotonic() - began < 10, "not for ever, however busy the machine"
    assert told(answers)[position] == "no answer in time"
    assert sum(a.record is not None for a in answers) == len(answers) - 1 == 2


def test_below_full_quorum_the_rest_are_not_waited_for():
    nodes = {1: Node(echo), 2: Node(None), 3: Node(echo)}
    began = time.monotonic()
    answers, _ = run(nodes, deadline=30, quorum=2 / 3)
    assert time.monotonic() - began < 20, "not to the deadline"
    assert told(answers) == {1: "to 1", 3: "to 3", 2: "no answer in time"}


def test_an_error_is_no_answer_towards_the_quorum():
    nodes = {1: Node(Error(2, "broken")), 2: Node(echo, looks=4), 3: Node(None)}
    answers, _ = run(nodes, deadline=30, quorum=0.3)
    assert told(answers)[2] == "to 2"


def test_an_answer_that_lies_there_when_the_quorum_is_reached_counts():
    answers, _ = run({1: Node(echo), 2: Node(echo, looks=1)}, deadline=30, quorum=0.5)
    assert told(answers) == {1: "to 1", 2: "to 2"}


def test_errors_come_with_their_words():
    answers, _ = run({1: Node(Error(5, "Node Unavailable")), 2: Node(echo)})
    assert told(answers) == {1: "error 5: Node Unavailable", 2: "to 2"}


@pytest.mark.parametrize("broken", [1, 2])
def test_a_transport_that_fails_now_and_then_ends_nothing(broken):
    answers, _ = run({1: Node(echo), 2: Node(echo)}, broken=broken)
    assert told(answers) == {1: "to 1", 2: "to 2"}


def test_looking_may_fail_too():
    nodes = {1: Node(echo), 2: Node(echo)}
    grid = FakeGrid(nodes)
    answers = exchange(grid, [(n, words(f"to {n}")) for n in nodes], "train", "0", 5.0)
    assert next(answers).node_id == 1
    grid.broken = 3
    assert told(answers) == {2: "to 2"}


def test_a_node_that_is_gone_before_its_message_leaves_ends_nothing():
    answers, _ = run({1: Node(echo, reachable=False), 2: Node(echo)})
    assert told(answers) == {1: "could not be sent to", 2: "to 2"}


def test_a_transport_that_never_works_is_an_error_per_node():
    answers, _ = run({1: Node(echo), 2: Node(echo)}, broken=10**6)
    assert told(answers) == {1: "could not be sent to", 2: "could not be sent to"}


def test_nobody_to_ask():
    assert run({})[0] == []
