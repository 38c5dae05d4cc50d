"""A task between the SuperNode and the door: what is reported about a failure, and how a task is stopped."""

import signal
import threading
import time

import pytest
from flwr.supercore import heartbeat

from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrol, Refusal
from remind_client.flower_internals import RunNotRunningException, TaskLine
from remind_client.launcher.door import Door
from remind_client.launcher.task import TaskCall, TaskStopped, run_task
from tests.builders.bundles import fab
from tests.builders.site_files import asked, context, write_site

CALL = TaskCall("127.0.0.1:1", "token", None, insecure=True)
SECRET = "Anna Smith"


class SuperNode:
    """What a task says to the SuperNode; each step may be made to fail."""

    def __init__(self, site, monkeypatch):
        self.site, self.answers, self.ended, self.fail = site, [], [], {}
        for step in ("pull", "push", "end"):
            monkeypatch.setattr(TaskLine, step, self.method(getattr(self, step)))
        monkeypatch.setattr(heartbeat, "make_task_heartbeat_fn_http", lambda client: lambda: True)

    @staticmethod
    def method(step):
        return lambda line, *arguments: step(*arguments)

    def step(self, name):
        if name in self.fail:
            raise self.fail[name]

    def pull(self):
        self.step("pull")
        content = fab({"a.py": ""})  # the door will refuse it: that is an answer, too
        return asked(to_record(Enrol(version="1")), "query"), context(self.site), 7, content

    def push(self, reply, ctx):
        self.step("push")
        self.answers.append(from_record(reply.content)[0])

    def end(self, ctx, completed, details):
        self.ended.append((completed, details))
        self.step("end")


@pytest.fixture
def node(tmp_path, monkeypatch):
    return SuperNode(write_site(tmp_path), monkeypatch)


def test_a_refusal_is_an_answer(node):
    assert run_task(CALL, Door(node.site))
    [answer] = node.answers
    assert isinstance(answer, Refusal)
    assert node.ended == [(True, "")]


@pytest.mark.parametrize("step", ["pull", "push"])
@pytest.mark.parametrize("error", [RuntimeError(SECRET), RunNotRunningException(SECRET), TaskStopped(SECRET)])
def test_a_failure_says_nothing(node, step, error):
    node.fail[step] = error
    assert not run_task(CALL, Door(node.site))
    [(completed, details)] = node.ended
    assert not completed
    assert SECRET not in details
    assert not node.answers


@pytest.mark.parametrize("error", [RuntimeError(SECRET), RunNotRunningException(SECRET)])
def test_an_end_that_cannot_be_told_harms_nobody(node, error):
    node.fail["end"] = error
    assert run_task(CALL, Door(node.site))


def test_flower_stops_a_task_by_a_signal_and_the_process_stays(node):
    class Endless(Door):
        def answer(self, *_):
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:  # a signal raised in another thread wakes nobody who sleeps long
                time.sleep(0.01)
            raise AssertionError("not stopped")

    before = signal.getsignal(signal.SIGINT)
    assert not run_task(CALL, Endless(node.site))
    assert signal.getsignal(signal.SIGINT) is before
    assert node.ended[0][0] is False


def test_a_task_outside_the_main_thread_is_refused(node):
    results = []
    thread = threading.Thread(target=lambda: results.append(run_task(CALL, Door(node.site))))
    thread.start()
    thread.join(60)
    assert results == [False]


def test_flowers_arguments():
    words = ["--runtime-api-address", "127.0.0.1:5", "--token", "t", "--insecure", "--parent-pid", "1"]
    assert TaskCall.parse(words) == TaskCall("127.0.0.1:5", "t", None, insecure=True)
    assert TaskCall.parse([*words, "--allow-runtime-dependency-installation"]) == TaskCall.parse(words)
    with pytest.raises(SystemExit):
        TaskCall.parse(["--nonsense"])
