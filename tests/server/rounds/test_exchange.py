"""One exchange: order, deadline, quorum, errors, a transport that fails."""

import pickle
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp

from remind.federation.flower import from_record, to_record
from remind.federation.messages import Refusal
from remind_server.rounds import exchange as exchange_module
from remind_server.rounds.exchange import exchange
from remind_server.rounds.shelf import Shelf
from remind_server.simulation.local_grid import FIRST_NODE_ID, LocalGrid
from tests.builders.grids import FakeGrid, Node


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(exchange_module, "PAUSE", 0.0)


def words(text: str) -> RecordDict:
    return to_record(Refusal(reason=text))


def echo(message):
    """The node's own content back: anybody who mixes up nodes is seen."""
    return message.content


def run(nodes: dict[int, Node], deadline=0.3, quorum=1.0, broken=0):
    grid = FakeGrid(nodes, broken)
    answers = list(exchange(grid, ((n, words(f"to {n}")) for n in nodes), "train", "7", deadline, quorum))
    return answers, grid


def told(answers):
    """Node → what it said, or the error."""

    def said(record) -> str:
        message: Any = from_record(record)[0]
        return message.reason

    return {a.node_id: said(a.record) if a.record else a.error for a in answers}


def test_each_node_gets_its_own_record_and_answers_come_in_the_order_asked():
    nodes = {5: Node(echo, looks=3), 2: Node(echo), 9: Node(echo, looks=1)}
    answers, grid = run(nodes)
    assert [a.node_id for a in answers] == [5, 2, 9]
    assert grid.pulled == [2, 9, 5], "each is fetched when it is there"
    assert told(answers) == {5: "to 5", 2: "to 2", 9: "to 9"}
    (message,) = nodes[5].received
    assert message.metadata.ttl > 0.3, "an answer in time must live until it is read"
    assert (message.metadata.group_id, message.metadata.message_type) == ("7", "train")


def test_an_answer_before_its_turn_waits_on_disk_as_it_was():
    """The second is fetched while the first is still worked on, and is not held in memory."""
    sent = np.arange(100_000, dtype=np.uint8)
    nodes = {1: Node(to_record(Refusal(reason="late")), looks=3), 2: Node(to_record(Refusal(reason="early"), sent))}
    on_disk = []

    class Watched(Shelf):
        def put(self, key, record):
            super().put(key, record)
            on_disk.append(len(pickle.dumps(self._records)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange_module, "Shelf", Watched)
        answers, _ = run(nodes)
    assert told(answers) == {1: "late", 2: "early"}
    assert (from_record(answers[1].record)[1] == sent).all()
    assert on_disk
    assert max(on_disk) < 10_000


@pytest.mark.parametrize("silent", [1, 2, 3, 4])
@pytest.mark.parametrize("quorum", [1.0, 0.99])
def test_one_silent_site_costs_the_others_nothing(silent, quorum):
    """The grid forgets a message with its answer when the ttl is over, as a SuperLink does."""

    def seconds(message):
        return float("inf") if message.metadata.dst_node_id == silent else 3.0 * message.metadata.dst_node_id

    app = ClientApp()
    app.train()(lambda message, context: Message(message.content, reply_to=message))
    grid = LocalGrid(app, 4, {}, run_id=1, seconds_to_answer=seconds)
    nodes = [n + FIRST_NODE_ID - 1 for n in (1, 2, 3, 4)]
    silent += FIRST_NODE_ID - 1
    answers = list(exchange(grid, ((n, words(f"to {n}")) for n in nodes), "train", "0", 60.0, quorum))
    assert told(answers) == {n: f"to {n}" for n in nodes if n != silent} | {silent: "no answer within 60 s"}
    assert grid.clock.now() == pytest.approx(60.0)


def test_an_answer_given_just_before_the_deadline_counts_and_one_just_after_does_not():
    app = ClientApp()
    app.train()(lambda message, context: Message(message.content, reply_to=message))
    grid = LocalGrid(app, 2, {}, run_id=1, seconds_to_answer=lambda m: {2: 59.9, 3: 60.1}[m.metadata.dst_node_id])
    answers = list(exchange(grid, ((n, words(f"to {n}")) for n in (2, 3)), "train", "0", 60.0))
    assert told(answers) == {2: "to 2", 3: "no answer within 60 s"}


def test_a_slow_reader_loses_no_answer():
    """Averaging one site's answer may take longer than is left of the round."""
    app = ClientApp()
    app.train()(lambda message, context: Message(message.content, reply_to=message))
    grid = LocalGrid(app, 3, {}, run_id=1, seconds_to_answer=lambda m: 50.0)
    found = []
    for answer in exchange(grid, ((n, words(f"to {n}")) for n in (2, 3, 4)), "train", "0", 60.0):
        found.append(answer)
        grid.clock.sleep(30.0)
    assert told(found) == {2: "to 2", 3: "to 3", 4: "to 4"}


@pytest.mark.parametrize("code", [3, 4])
def test_the_database_of_flower_is_not_what_people_read_about(code):
    answers, _ = run({1: Node(Error(code, "could not be found in the database")), 2: Node(echo)})
    assert told(answers) == {1: "no answer within 0.3 s", 2: "to 2"}


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("quorum", [1.0, 0.99])
def test_who_does_not_answer_in_time_is_named_and_the_others_count(position, quorum):
    nodes = {n: Node(None if n == position else echo) for n in range(3)}
    answers, grid = run(nodes, deadline=30.0, quorum=quorum)
    assert grid.clock.now() == pytest.approx(30.0)
    assert told(answers)[position] == "no answer within 30 s"
    assert sum(a.record is not None for a in answers) == len(answers) - 1 == 2


def test_below_full_quorum_the_rest_are_not_waited_for():
    nodes = {1: Node(echo), 2: Node(None), 3: Node(echo)}
    answers, grid = run(nodes, deadline=30, quorum=2 / 3)
    assert grid.clock.now() < 1, "not to the deadline"
    assert told(answers) == {1: "to 1", 3: "to 3", 2: "no answer within 30 s"}


def test_an_error_is_no_answer_towards_the_quorum():
    nodes = {1: Node(Error(2, "broken")), 2: Node(echo, looks=4), 3: Node(None)}
    answers, _ = run(nodes, deadline=30, quorum=0.3)
    assert told(answers)[2] == "to 2"


def test_an_answer_that_lies_there_when_the_quorum_is_reached_counts():
    answers, _ = run({1: Node(echo), 2: Node(echo, looks=1)}, deadline=30, quorum=0.5)
    assert told(answers) == {1: "to 1", 2: "to 2"}


def test_errors_come_with_their_words():
    answers, _ = run({1: Node(Error(5, "Node Unavailable")), 2: Node(echo)})
    assert told(answers) == {1: "went offline before it answered", 2: "to 2"}


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
