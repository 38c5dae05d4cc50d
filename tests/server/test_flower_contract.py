"""The coordinator's expectations of Flower's private modules hold for the installed Flower.

`.ci/run` runs this against the lowest and the highest version that is supported.
"""

import inspect
import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ConfigRecord, Message, RecordDict
from flwr.cli.app import app as flowers_cli
from flwr.proto.control_pb2 import ListNodesResponse, ListRunsResponse, RegisterNodeResponse, StartRunResponse
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.superlink.grid import http_grid

from remind.consortium.enrolment import public_key_text
from remind_server import flower_internals as ours
from remind_server.consortium import flower as consortium
from remind_server.consortium.folder import read_file
from remind_server.consortium.make import make
from remind_server.rounds import flwr_pull
from remind_server.simulation.flwr_run import NEW, USED, extended

PROGRAM = import_module("flwr.superlink.cli.flower_superlink")  # its package has a function under this name
LOCAL = import_module("flwr.cli.local_superlink")
EXECUTOR = import_module("flwr.supercore.cli.flower_superexec")


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


@pytest.fixture
def folder(tmp_path):
    """A consortium's folder, with its certificates."""
    return make(tmp_path / "heart", "heart", ["coordinator.example.org"], 443, "", None, 3650, 365)


@pytest.fixture
def hospital():
    """A hospital's key."""
    return SimpleNamespace(public_key=public_key_text(ec.generate_private_key(ec.SECP384R1()).public_key()))


# ---- messages and the grid


def test_messages_are_stamped_and_named():
    ours.set_identity(7, 3)
    message = Message(RecordDict({"a": ConfigRecord({"b": 1})}), 2, "train")
    ours.set_message_id(message, "42")
    assert (message.metadata.run_id, message.metadata.src_node_id, message.metadata.message_id) == (7, 3, "42")
    assert ours.NodeInfo(node_id=2, name="north").name == "north"


def test_the_pieces_of_an_array_are_known():
    array = Array("float32", (2,), "numpy.ndarray", bytes(8))
    contents = {key: part.deflate() for key, part in get_all_nested_objects(array).items()}
    ((children, body),) = [found for content in contents.values() if (found := ours.array_body(content)) is not None]
    assert sum(len(contents[children[piece]]) for piece in json.loads(body)["arraychunk_ids"]) >= 8


def test_the_grid_pulls_with_our_function():
    module: Any = http_grid
    assert module.pull_objects is flwr_pull.pull_objects
    assert "pull_objects" in names_used(http_grid.HttpGrid.pull_messages.__code__)  # looked up by name each time
    assert list(inspect.signature(ours.pull_objects).parameters)[:2] == ["object_ids", "pull_object_fn"]
    assert str(ours.ObjectPullError("", "why"))


# ---- the simulation's workers


def test_the_pool_of_workers(monkeypatch):
    assert find_spec(ours.SIMULATION)
    monkeypatch.delitem(sys.modules, ours.SIMULATION, raising=False)
    assert ours.simulation_pool() is None
    pytest.importorskip("ray")
    monkeypatch.setitem(sys.modules, ours.SIMULATION, ModuleType(ours.SIMULATION))
    pool = ours.simulation_pool()
    assert takes(pool.fetch_result_and_return_actor_to_pool, pool, "future")
    assert {"create_actor_fn", "_future_to_actor"} <= names_used(pool.__init__.__code__)
    assert "_future_to_actor" in names_used(pool.add_actor_back_to_pool.__code__)


# ---- the command line


def flowers_run():
    """Flower's own `run`, under our options."""
    (run,) = [info.callback for info in flowers_cli.registered_commands if info.callback.__name__ == "run"]
    return inspect.unwrap(run)


def test_run_takes_what_we_change():
    run = flowers_run()
    assert inspect.signature(run).parameters.keys() >= USED
    assert inspect.signature(extended(run)).parameters.keys() >= USED | NEW.keys()
    read, handler = ours.connection_reader_and_handler()
    assert takes(read, None)
    assert takes(handler, output_format="default")


def test_run_has_our_options():
    command = [str(Path(sys.executable).parent / "flwr"), "run", "--help"]
    surroundings = os.environ | {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    shown = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=True).stdout
    assert {"--num-clients", "--cohort", "--yes", "--federation-config"} <= set(shown.replace(",", " ").split())


def test_run_connects_and_streams_by_these_names():
    run = flowers_run()
    names = sys.modules[run.__module__].__dict__
    functions = [f for f in names.values() if inspect.isfunction(f) and f.__module__ == run.__module__]
    assert {ours.CONNECT, ours.STREAM} <= set().union(*(names_used(f.__code__) for f in functions))
    before = names[ours.CONNECT], names[ours.STREAM]
    assert takes(before[1], 42, "client")
    ours_of: Any = lambda function: ("ours", function)  # noqa: E731
    with ours.replaced_in_run(run, ours_of, ours_of):
        assert (names[ours.CONNECT], names[ours.STREAM]) == (("ours", before[0]), ("ours", before[1]))
    assert (names[ours.CONNECT], names[ours.STREAM]) == before
    assert {"StartRun", "StreamLogs", "ListRuns"} <= set(dir(ControlHttpClient))
    assert ".StreamLogs(" in inspect.getsource(sys.modules[before[1].__module__])


def test_a_run_submitted_has_a_status():
    class Client:
        def ListRuns(self, request):
            answer = ListRunsResponse()
            answer.run_dict[request.run_id].status.status = "finished"
            answer.run_dict[request.run_id].status.sub_status = "failed"
            answer.run_dict[request.run_id].status.details = "why"
            return answer

    assert ours.run_status(42, Client()) == ("finished:failed", "why")


def test_the_local_superlink_is_where_we_say():
    port, start = ours.local_superlink()
    assert port.isdecimal()
    assert takes(start, True)
    started = names_used(LOCAL._start_local_superlink.__code__)
    callers = [f for f in vars(LOCAL).values() if inspect.isfunction(f) and f is not start]
    assert {ours.PORT, ours.PATIENCE} <= started
    assert any(ours.START in names_used(f.__code__) for f in callers)
    try:
        ours.replace_local_superlink("50000", print)
        assert ours.local_superlink() == ("50000", print)
    finally:
        ours.replace_local_superlink(port, start)


def test_flower_waits_longer_for_the_local_superlink_where_we_ask_for_it():
    before = LOCAL.LOCAL_SUPERLINK_STARTUP_TIMEOUT
    with ours.local_superlink_may_take(before + 50):
        assert before + 50 == LOCAL.LOCAL_SUPERLINK_STARTUP_TIMEOUT
    with ours.local_superlink_may_take(before - 5):
        assert before == LOCAL.LOCAL_SUPERLINK_STARTUP_TIMEOUT, "never less"
    assert before == LOCAL.LOCAL_SUPERLINK_STARTUP_TIMEOUT


# ---- the Control API


class Answers:
    """In place of the SuperLink behind Flower's client."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        assert hasattr(ControlHttpClient, name)

        def call(request):
            self.asked.append(request)
            return {
                "RegisterNode": RegisterNodeResponse(node_id=5),
                "ListNodes": self.nodes(),
                "StartRun": StartRunResponse(run_id=42),
                "ListRuns": self.runs(),
            }.get(name)

        return call

    def nodes(self):
        answer = ListNodesResponse(now="2026-11-29T12:00:00+00:00")
        answer.nodes_info.add(node_id=5, public_key=self.asked[0].public_key, status="online")
        return answer

    def runs(self):
        answer = ListRunsResponse()
        run = answer.run_dict[42]
        run.run_id, run.pending_at, run.status.status = 42, "2026-11-29T12:00:00+00:00", "running"
        return answer


def test_the_control_api(tmp_path, folder, hospital):
    control: Any = consortium.Control("127.0.0.1:1", read_file(folder.loopback_ca))
    control.close()
    control._client = Answers()
    assert control.register(hospital.public_key, "north", "46.5,6.6") == 5
    assert control._client.asked[0].location == "46.5,6.6"
    assert control.nodes()[hospital.public_key].status == "online"
    control.unregister(5)
    assert control._client.asked[-1].node_id == 5
    bundle = consortium.app_bundle()
    assert control.start_run(bundle, {"seed": 1, "train.lr": 0.5, "device": "cpu", "flag": True}) == 42
    assert control._client.asked[-1].fab.content == bundle
    assert control.run(42).status == "running"
    assert [run.run_id for run in control.runs()] == [42]
    control.stop_run(42)
    assert control._client.asked[-1].run_id == 42


def test_refusals_have_flowers_codes():
    assert int(ApiErrorCode.NODE_NOT_FOUND) == consortium.NODE_NOT_FOUND
    assert int(ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE) == consortium.KEY_IN_USE
    said = FlowerError.from_json(json.dumps({"code": 23, "detail": "in use"}))
    assert (int(said.code), said.message) == (23, "in use")
    assert FlowerError.from_json("<html>") is None


def test_the_consortiums_command_lines_are_flowers(folder):
    link = PROGRAM._parse_args_run_superlink().parse_args(consortium.superlink_command(folder)[1:])
    assert link.isolation == "process"
    assert EXECUTOR._parse_args().parse_args(consortium.superexec_command(folder)[1:]).runtime_api_address
