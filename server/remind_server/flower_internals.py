"""What the coordinator uses of Flower's private modules: flwr 1.41 and 1.42.

Private is what is neither in `flwr.app`, `flwr.clientapp`, `flwr.serverapp` nor a documented command. It may change
with every release, so no other file of this package imports it (a test sees to that), and a contract test holds each
supported Flower to what is expected here. The one other file is `consortium/flower.py`: the Control API, in terms of a
consortium, which no run needs. What one process needs alone is imported in the functions that it calls.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import Array, Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.inflatable.inflatable_object import get_object_body, get_object_head_values_from_object_content
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, pull_objects
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "NodeInfo",
    "ObjectPullError",
    "Run",
    "array_body",
    "connection_reader_and_handler",
    "local_superlink",
    "local_superlink_may_take",
    "pull_objects",
    "replace_local_superlink",
    "replace_pull_objects",
    "replaced_in_run",
    "run_status",
    "set_identity",
    "set_message_id",
    "simulation_pool",
]

# ---- messages and the grid (flwr/superlink/grid/http_grid.py)


def set_identity(run_id: int, node_id: int) -> None:
    """Let this process stamp messages as the task of a run, which Flower's own launchers see to elsewhere."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message its id, as a SuperLink does."""
    message.metadata.__dict__["_message_id"] = message_id


def array_body(content: bytes) -> tuple[list[str], bytes] | None:
    """Return the ids of an array's pieces and the JSON text that names them; None if the piece is no array."""
    kind, children, _ = get_object_head_values_from_object_content(content)
    return (children, get_object_body(content, Array)) if kind == Array.__qualname__ else None


def replace_pull_objects(pull: Callable[..., dict[str, bytes]]) -> None:
    """Let `HttpGrid.pull_messages` pull the pieces of a message with this function."""
    from flwr.superlink.grid import http_grid

    http_grid.pull_objects = pull  # type: ignore[attr-defined]


# ---- the simulation's workers (flwr/simulation/ray_transport/ray_actor.py)

SIMULATION = "flwr.simulation.run_simulation"  # loaded in the process of a simulation alone


def simulation_pool() -> Any:
    """Return the class of the pool of Ray workers, in the process of a simulation; None anywhere else.

    It has ``fetch_result_and_return_actor_to_pool``, ``_future_to_actor`` and ``create_actor_fn``; a Flower that has no
    such pool any more keeps its own behaviour.
    """
    if SIMULATION not in sys.modules:
        return None
    try:
        from flwr.simulation.ray_transport.ray_actor import BasicActorPool
    except ImportError:  # another backend, or another Flower
        return None
    return BasicActorPool if hasattr(BasicActorPool, "fetch_result_and_return_actor_to_pool") else None


# ---- the command line (flwr/cli/)

CONNECT, STREAM = "init_http_client_from_connection", "start_stream"  # what Flower's `run` calls by these names
PORT, START = "LOCAL_SUPERLINK_HTTP_API_PORT", "_start_local_superlink"
PATIENCE = "LOCAL_SUPERLINK_STARTUP_TIMEOUT"  # seconds


def connection_reader_and_handler() -> tuple[Callable[[str | None], Any], Callable[..., Any]]:
    """Return Flower's reader of a connection by its name, and the context in which its commands say errors."""
    from flwr.cli.flower_config import read_superlink_connection
    from flwr.cli.utils import cli_output_handler

    return read_superlink_connection, cli_output_handler


@contextmanager
def replaced_in_run(
    run: Callable[..., None],
    connect: Callable[[Callable[..., Any]], Callable[..., Any]],
    stream: Callable[[Callable[[int, Any], None]], Callable[[int, Any], None]],
) -> Iterator[None]:
    """Let Flower's `run` connect and stream the log with what these make of its own functions.

    `connect` gets what returns a client with ``StartRun``, ``StreamLogs`` and ``ListRuns``; `stream` gets what shows
    the log of a run's id with such a client. A Flower that has no such functions any more is left as it is.
    """
    names = sys.modules[run.__module__].__dict__
    before = {name: names[name] for name in (CONNECT, STREAM) if name in names}
    wrap: dict[str, Callable[[Any], Any]] = {CONNECT: connect, STREAM: stream}
    names.update({name: wrap[name](function) for name, function in before.items()})
    try:
        yield
    finally:
        names.update(before)


def run_status(run_id: int, client: Any) -> tuple[str, str]:
    """Return how a run stands (``finished:completed``, ``running`` …) and Flower's details."""
    from flwr.proto.control_pb2 import ListRunsRequest

    status = client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id].status
    return f"{status.status}:{status.sub_status}" if status.sub_status else status.status, status.details


def local_superlink() -> tuple[str, Callable[..., None]] | None:
    """Return the port of the SuperLink that `flwr run` starts, and what starts it; None if this Flower has none."""
    import flwr.cli.local_superlink as flower

    names = vars(flower)
    return (str(names[PORT]), names[START]) if PORT in names and START in names else None


def replace_local_superlink(port: str, start: Callable[..., None]) -> None:
    """Let `flwr run` use this port, and start a SuperLink there with this function of ``in_memory``."""
    import flwr.cli.local_superlink as flower

    vars(flower).update({PORT: port, START: start})


@contextmanager
def local_superlink_may_take(seconds: float) -> Iterator[None]:
    """Let `flwr run` wait this long for the SuperLink that it starts; Flower's own 15 s are too few on a busy machine.

    A SuperLink that ends meanwhile is reported at once. A Flower that has no such limit is left as it is.
    """
    import flwr.cli.local_superlink as flower

    names = vars(flower)
    before = {PATIENCE: names[PATIENCE]} if PATIENCE in names else {}
    names.update({name: max(limit, seconds) for name, limit in before.items()})
    try:
        yield
    finally:
        names.update(before)
