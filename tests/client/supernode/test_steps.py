"""The SuperNode's two steps on Flower's own node state: nothing of a message remains, whatever happens to it."""

import threading
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory

from remind_client.flower_internals import UNFINISHED
from remind_client.supernode import loop
from remind_client.supernode.loop import Steps

RUN = 7


class Line:
    """The calls to the coordinator, as a test wants them to go."""

    def __init__(self):
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN, 1
        self.message = self.made("train", ttl=300.0)
        self.objects = {key: part.deflate() for key, part in get_all_nested_objects(self.message).items()}
        self.sent, self.confirmed, self.goes_on = [], [], True

    @staticmethod
    def made(kind, ttl):
        message = Message(RecordDict({"a": ConfigRecord({"b": 1})}), 2, kind, ttl=ttl)
        message.metadata.__dict__["_message_id"] = message.object_id
        return message

    def receive(self):
        return self.message, get_object_tree(self.message)

    def get_run(self, run_id):
        if not self.goes_on:
            raise RunNotRunningException
        return Run.create_empty(run_id)

    def pull_object(self, run_id, object_id):
        return self.objects[object_id]

    def send(self, message, tree, seconds):
        self.sent.append(message)
        return set(), "session"


class Node:
    """A SuperNode's memory with the steps on it."""

    def __init__(self):
        stores = ObjectStoreFactory()
        self.state: Any = NodeStateFactory(objectstore_factory=stores).state()
        self.line = Line()
        self.store: Any = stores.store()
        self.state.set_node_id(2)
        self.state.store_run(Run.create_empty(RUN))
        self.steps = Steps(worker=None)

    def fetch(self, **changed):
        line = self.line
        calls = {
            "receive": line.receive,
            "get_run": line.get_run,
            "get_fab": lambda fab_hash, run_id: None,
            "pull_object": line.pull_object,
            "confirm_message_received": lambda run_id, message_id: line.confirmed.append(message_id),
        } | changed
        return self.steps.fetch(
            state=self.state, object_store=self.store, node_config={}, trusted_entities=None, **calls
        )

    def send(self, **changed):
        calls = {"send": self.line.send, "push_object": lambda *call: None} | changed
        self.steps.send(state=self.state, object_store=self.store, **calls)

    def begin(self):
        """Begin the task, as the worker does; its id."""
        (task,) = self.state.get_tasks(statuses=UNFINISHED)
        assert self.state.claim_task(task.task_id)
        assert self.state.activate_task(task.task_id)
        (message,) = self.state.get_messages_legacy(run_ids=[RUN], is_reply=False)
        return task.task_id, message

    def answer(self, task_id, message, status=SubStatus.COMPLETED):
        if status == SubStatus.COMPLETED:
            from flwr.supernode.start_client_internal import _insert_message

            _insert_message(Message(RecordDict(), reply_to=message), self.state, self.store)
        assert self.state.finish_task(task_id, status, "")

    def left(self):
        """What is left in memory of any message."""
        return list(self.state.get_tasks(statuses=UNFINISHED)), dict(self.state.msg_store), dict(self.store.store)


@pytest.fixture
def node(monkeypatch):
    monkeypatch.setattr(loop, "LOOK", 0.005)
    monkeypatch.setattr(loop, "ASK", 0.02)
    return Node()


class LeftError(Exception):
    """In place of the end of the process."""


@pytest.fixture
def leaving(monkeypatch):
    def leave(why):
        raise LeftError(why)

    monkeypatch.setattr(loop, "_leave", leave)


NOTHING = ([], {}, {})


def test_an_ordinary_message_is_fetched_worked_on_and_answered(node, capsys):
    assert node.fetch() == RUN
    assert node.line.confirmed == [node.line.message.metadata.message_id]
    node.answer(*node.begin())
    node.send()
    (sent,) = node.line.sent
    assert sent.metadata.reply_to_message_id == node.line.message.metadata.message_id
    assert node.left() == NOTHING
    assert '{"what": "done", "answered": true, "why": ""}' in capsys.readouterr().out


def over(*_):
    raise RunNotRunningException


def trouble(*_):
    raise httpx.HTTPStatusError("500", request=httpx.Request("POST", "https://x"), response=httpx.Response(500))


def expired(*_):
    raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired")


@pytest.mark.parametrize("step", ["get_run", "pull_object", "confirm_message_received"])
@pytest.mark.parametrize("failure", [over, trouble, expired])
def test_a_message_that_cannot_be_fetched_leaves_nothing_behind(node, step, failure):
    """A run stopped meanwhile, say: Flower alone leaves task and message, and the next answer is a wrong one."""
    if step == "get_run":
        node.state.run_store.clear()
    assert node.fetch(**{step: failure}) is None
    assert node.left() == NOTHING
    node.state.store_run(Run.create_empty(RUN))
    assert node.fetch() == RUN, "and the next one is fetched"


def test_flower_alone_leaves_a_rest(node):
    """What the test before is worth."""
    node.steps.fetch_from_flower(
        state=node.state,
        object_store=node.store,
        node_config={},
        receive=node.line.receive,
        get_run=node.line.get_run,
        get_fab=None,
        pull_object=over,
        confirm_message_received=None,
        trusted_entities=None,
    )
    assert node.left() != NOTHING


def test_fetching_is_given_up_when_nothing_more_comes(node, monkeypatch):
    monkeypatch.setattr(loop, "STALL", 0.0)
    ended = threading.Event()

    def never(run_id, object_id):
        raise ObjectUnavailableError(object_id)

    def fetch():
        assert node.fetch(pull_object=never) is None
        ended.set()

    threading.Thread(target=fetch, daemon=True).start()
    assert ended.wait(60), "Flower would wait for two hours"
    assert node.left() == NOTHING


@pytest.mark.parametrize("failure", [trouble, expired])
def test_a_coordinator_in_trouble_does_not_end_the_loop(node, failure, capsys):
    assert node.fetch(receive=failure) is None
    assert '"what": "poll", "ok": false' in capsys.readouterr().out
    assert node.fetch() == RUN
    assert '"what": "poll", "ok": true' in capsys.readouterr().out


def test_a_task_that_ends_without_an_answer_is_answered_with_an_error(node):
    """Flower would wait for ever."""
    node.fetch()
    node.answer(*node.begin(), status=SubStatus.FAILED)
    node.send()
    (sent,) = node.line.sent
    assert sent.has_error()
    assert "own log says why" in sent.error.reason
    assert node.left() == NOTHING


def test_an_answer_to_another_message_is_not_taken_for_this_one(node):
    node.fetch()
    task, message = node.begin()
    other = node.line.made("evaluate", 60.0)
    from flwr.supernode.start_client_internal import _insert_message

    _insert_message(Message(RecordDict(), reply_to=other), node.state, node.store)
    node.answer(task, message)
    node.send()
    assert [m.metadata.reply_to_message_id for m in node.line.sent] == [message.metadata.message_id]
    assert node.left() == NOTHING


def test_work_for_a_run_that_is_over_is_stopped(node, leaving):
    node.fetch()
    node.begin()
    node.line.goes_on = False
    with pytest.raises(LeftError, match="separate process"):
        node.send()
    assert node.left() == NOTHING
    assert node.line.sent == []


def test_work_that_nobody_waits_for_any_more_is_stopped(node, leaving):
    node.line.message = node.line.made("train", ttl=0.05)
    node.line.objects = {k: part.deflate() for k, part in get_all_nested_objects(node.line.message).items()}
    node.fetch()
    node.begin()
    with pytest.raises(LeftError):
        node.send()
    assert node.left() == NOTHING


def test_a_task_that_nobody_begins_ends_the_process(node, leaving, monkeypatch):
    monkeypatch.setattr(loop, "CLAIM", 0.01)
    node.fetch()
    with pytest.raises(LeftError, match="did not start"):
        node.send()


@pytest.mark.parametrize("failures", [1, 3])
def test_an_answer_survives_a_coordinator_that_cannot_take_it_just_now(node, failures):
    node.fetch()
    node.answer(*node.begin())
    left = [trouble] * failures

    def send(*call):
        return left.pop()() if left else node.line.send(*call)

    node.send(send=send)
    assert len(node.line.sent) == 1


def test_an_answer_for_a_run_that_is_over_is_dropped_and_said(node, capsys):
    node.fetch()
    node.answer(*node.begin())
    node.send(send=over)
    assert node.left() == NOTHING
    assert '{"what": "done", "answered": false, "why": "the run is over"}' in capsys.readouterr().out
