"""The hospital's expectations of Flower's private modules hold for the installed Flower.

`.ci/run` runs this against the lowest and the highest version that is supported.
"""

import hashlib
import inspect
from importlib import import_module
from importlib.metadata import entry_points
from types import CodeType
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SubStatus
from flwr.supercore.error import catalog
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.runtime import run_clientapp

from remind_client import flower_internals as ours
from remind_client.supernode.loop import Steps
from remind_client.supervisor.flower import Connection, commands
from tests.builders.bundles import fab
from tests.builders.site_files import asked, write_site

PROGRAM = import_module("flwr.supernode.cli.flower_supernode")  # its package has a function under this name
EXECUTOR = import_module("flwr.supercore.cli.flower_superexec")
CALL = ["--runtime-api-address", "127.0.0.1:5", "--token", "t", "--insecure", "--parent-pid", "1"]
APP = """
from flwr.clientapp import ClientApp
app = ClientApp()
other = 1
"""


def names_used(code: CodeType) -> set[str]:
    """Names that a function looks up in its module or in objects, nested functions included."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(names_used, inner))


def takes(function, *arguments, **named):
    """Whether a function can be called like this."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True


def test_a_supernode_starts_its_tasks_by_names_that_we_stand_in_for():
    assert ours.CLIENT_APP == "flwr-clientapp"
    scripts = {script.name for script in entry_points(group="console_scripts")}
    assert ours.CLIENT_APP in ours.TASK_PROGRAMS <= scripts
    assert {name for name in scripts if name.startswith("flwr-")} <= ours.TASK_PROGRAMS | {"flwr-serverapp"}


def test_the_arguments_of_a_task():
    assert ours.task_arguments(CALL) == ("127.0.0.1:5", "t", None, True)


def test_a_task_speaks_with_the_supernode():
    line = ours.TaskLine("127.0.0.1:5", "t", None, insecure=True, patience=1.0)
    client, message, context = line._client, asked(RecordDict(), "train"), object()
    assert takes(run_clientapp.pull_task_input, client)
    assert [part.__name__ for part in inspect.signature(run_clientapp.pull_task_input).return_annotation.__args__] == [
        "Message",
        "Context",
        "Run",
        "Fab",
    ]
    assert takes(run_clientapp.push_message, client, message, context)
    assert takes(run_clientapp.push_task_output, client, None, SubStatus.FAILED, "why")
    assert (line._retry.max_time, line._heartbeat.is_running) == (1.0, False)
    assert line._retry.max_tries is None
    line.close()


def test_an_app_of_a_bundle_is_unpacked_and_loaded(tmp_path):
    project = '[project]\nname = "app"\nversion = "1"\n[tool.flwr.app]\npublisher = "someone"\n'
    project += '[tool.flwr.app.components]\nserverapp = "brought:app"\nclientapp = "brought:app"\n'
    code = APP.encode()
    listed = f"pyproject.toml,{hashlib.sha256(project.encode()).hexdigest()},{8 * len(project)}\n"
    listed += f"brought.py,{hashlib.sha256(code).hexdigest()},{8 * len(code)}\n"
    content = fab({"brought.py": code, ".info/CONTENT": listed}, project=project)
    assert isinstance(ours.load_component("brought:app", content, tmp_path), ClientApp)
    with pytest.raises(Exception, match="is no ClientApp"):
        ours.load_component("brought:other", content, tmp_path / "again")


def test_the_loop_takes_our_steps(monkeypatch):
    fetch, send = ours.fetch_and_send()
    monkeypatch.setattr(start_client_internal, "_pull_and_store_message", fetch)
    monkeypatch.setattr(start_client_internal, "_push_messages", send)
    steps = Steps(None)
    steps.install()
    used = names_used(start_client_internal.start_client_internal.__code__)
    assert {"_pull_and_store_message", "_push_messages"} <= used  # looked up by name each time
    assert start_client_internal._pull_and_store_message == steps.fetch
    assert start_client_internal._push_messages == steps.send


def test_the_steps_are_called_by_keyword():
    fetch, send = ours.fetch_and_send()
    assert list(inspect.signature(fetch).parameters) == [
        "state",
        "object_store",
        "node_config",
        "receive",
        "get_run",
        "get_fab",
        "pull_object",
        "confirm_message_received",
        "trusted_entities",
    ]
    assert list(inspect.signature(send).parameters) == ["state", "object_store", "send", "push_object"]


def test_the_supernode_takes_our_heartbeat(monkeypatch):
    monkeypatch.setattr(fleet_http_connection, "HeartbeatSender", ours.HeartbeatSender)
    monkeypatch.setattr(PROGRAM, "flower_supernode", lambda: None)
    made: Any = object()
    ours.run_supernode(made)
    connection: Any = fleet_http_connection
    assert connection.HeartbeatSender is made
    assert "HeartbeatSender" in names_used(connection.http_request_response.__wrapped__.__code__)
    assert takes(ours.HeartbeatSender, lambda: True)
    assert {"start", "stop", "is_running"} <= set(dir(ours.HeartbeatSender))


def test_the_memory_of_a_supernode():
    stores = ObjectStoreFactory()
    state = NodeStateFactory(objectstore_factory=stores).state()
    store: Any = stores.store()
    state.set_node_id(2)
    state.store_run(Run.create_empty(7))
    memory = ours.NodeMemory(state)
    question, other = (asked(RecordDict({"a": ConfigRecord({"b": i})}), "train") for i in (1, 2))
    for message in (question, other):
        message.metadata.__dict__["_message_id"] = message.object_id
        memory.put(Message(RecordDict(), reply_to=message), store)
    assert len(memory.replies()) == 2
    memory.drop_other_replies(question)
    assert [reply.metadata.reply_to_message_id for reply in memory.replies()] == [question.object_id]
    assert memory.unfinished() == []
    assert not memory.begun()
    assert memory.clear()
    assert (memory.replies(), dict(store.store)) == ([], {})


def test_what_a_supernode_says_is_understood():
    said = "".join(map(inspect.getsource, (start_client_internal, PROGRAM, catalog)))
    constants = Connection.hear.__code__.co_consts[1:]  # the first is the docstring
    words = [word for constant in constants for word in (constant if isinstance(constant, tuple) else [constant])]
    lines = [word for word in words if isinstance(word, str) and word[:1].isupper()]
    assert "Starting Flower SuperNode" in lines
    assert [words for words in lines if words not in said] == []


def test_our_command_lines_are_flowers(tmp_path):
    site = write_site(tmp_path)
    site.state_folder.mkdir()
    (tmp_path / "ca.crt").write_text("x")
    lines = commands(site, site.kit())
    node = PROGRAM._parse_args_run_supernode().parse_args(lines["supernode"][3:])
    assert (node.isolation, node.host) == ("process", "127.0.0.1")
    executor = EXECUTOR._parse_args().parse_args(lines["superexec"][1:])
    assert executor.runtime_api_address == f"127.0.0.1:{node.port}"
