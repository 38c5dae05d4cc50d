"""Everything that the hospital uses of Flower's private modules: flwr 1.41 and 1.42.

Private means: neither in `flwr.app`, `flwr.clientapp`, `flwr.serverapp` nor a documented command. Private modules may
change with every release, so no other file of this package imports them (a test checks this), and a contract test
checks every supported Flower against this file. SuperNode, worker and supervisor are three processes: functions import
what only one of them needs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, Status, SubStatus
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND, TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.supercore.run import RunNotRunningException

__all__ = [
    "CLIENT_APP",
    "CRASHED",
    "TASK_PROGRAMS",
    "HeartbeatSender",
    "NodeMemory",
    "ObjectPullError",
    "ObjectUnavailableError",
    "RunNotRunningException",
    "TaskLine",
    "fetch_and_send",
    "import_task_modules",
    "load_component",
    "replace_fetch_and_send",
    "run_supernode",
    "task_arguments",
]

CLIENT_APP = TASK_TYPE_TO_COMMAND[TaskType.CLIENT_APP]
TASK_PROGRAMS = frozenset(TASK_TYPE_TO_COMMAND.values())  # programs that a SuperNode may start for a message
CRASHED = ErrorCode.CLIENT_APP_CRASHED
UNFINISHED = (Status.PENDING, Status.STARTING, Status.RUNNING)


# ---- the process that does a task (flwr/supernode/runtime/run_clientapp.py)


def task_arguments(arguments: Sequence[str]) -> tuple[str, str, bytes | None, bool]:
    """Parse a call of ``flwr-clientapp``: address, token, root certificates, and whether TLS is off.

    Raises
    ------
    SystemExit
        The arguments are not those of Flower's call.
    """
    from flwr.common.args import try_obtain_flwr_app_token
    from flwr.supercore.tls import validate_and_resolve_root_certificates
    from flwr.supernode.cli.flwr_clientapp import _parse_args_run_flwr_clientapp

    given = _parse_args_run_flwr_clientapp().parse_args(list(arguments))
    certificates = validate_and_resolve_root_certificates(given.root_certificates, given.insecure)
    return given.runtime_api_address, try_obtain_flwr_app_token(given), certificates, given.insecure


def import_task_modules() -> None:
    """Import the modules of a task, so that the first task does not wait for them."""
    import flwr.supernode.cli.flwr_clientapp  # noqa: F401 - and with it the rest


class TaskLine:
    """The connection on which a task's process gets its message from the SuperNode and returns the answer.

    Parameters
    ----------
    patience
        Seconds of trying to reach a SuperNode that does not answer.
    """

    def __init__(self, address: str, token: str, certificates: bytes | None, insecure: bool, patience: float) -> None:
        from flwr.supercore.heartbeat import make_task_heartbeat_fn_http
        from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
        from flwr.supercore.retry import make_simple_http_retry_invoker
        from flwr.supercore.runtime import RuntimeHttpClient
        from flwr.supernode.runtime import run_clientapp

        self._steps = run_clientapp
        self._retry = make_simple_http_retry_invoker()
        self._retry.max_time = patience
        self._client = RuntimeHttpClient.from_server_address(
            server_address=address,
            insecure=insecure,
            root_certificates=certificates,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name=CLIENT_APP),
                RuntimeTokenHttpInterceptor(token),
            ],
            retry_invoker=self._retry,
        )
        self._heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(self._client))

    def open(self) -> None:
        """Start sending the SuperNode heartbeats of the task."""
        self._heartbeat.start()

    def pull(self) -> tuple[Message, Context, int, bytes]:
        """Return the message, its context, the run's id and the bundle's bytes."""
        message, context, run, fab = self._steps.pull_task_input(self._client)
        return message, context, run.run_id, fab.content

    def push(self, reply: Message, context: Context) -> None:
        """Return the answer to the SuperNode."""
        self._steps.push_message(self._client, reply, context)

    def end(self, context: Context | None, completed: bool, details: str) -> None:
        """Report how the task ended, without a retry."""
        self._retry.max_tries = 1
        status = SubStatus.COMPLETED if completed else SubStatus.FAILED
        self._steps.push_task_output(self._client, context, status, details)

    def close(self) -> None:
        """End the heartbeat and the connection."""
        if self._heartbeat.is_running:
            self._heartbeat.stop()
        self._client.close()


def load_component(component: str, content: bytes, folder: Path) -> ClientApp:
    """Unpack a bundle into `folder` and load its ClientApp.

    Raises
    ------
    Exception
        Flower's exception, if the bundle has no such app.
    """
    from flwr.cli.install import install_from_fab
    from flwr.clientapp.client_app import LoadClientAppError
    from flwr.supercore.object_ref import load_app

    app = load_app(component, LoadClientAppError, install_from_fab(content, install_dir=folder, skip_prompt=True))
    if not isinstance(app, ClientApp):
        raise LoadClientAppError(f"{component} is no ClientApp")
    return app


# ---- the SuperNode (flwr/supernode/start_client_internal.py)


def fetch_and_send() -> tuple[Callable[..., int | None], Callable[..., None]]:
    """Return Flower's two steps: fetching a message into the node's memory, and sending its answer.

    They are called by keyword: ``state, object_store, node_config, receive, get_run, get_fab, pull_object,
    confirm_message_received, trusted_entities`` and ``state, object_store, send, push_object``.
    """
    from flwr.supernode import start_client_internal as flower

    return flower._pull_and_store_message, flower._push_messages


def replace_fetch_and_send(fetch: Callable[..., int | None], send: Callable[..., None]) -> None:
    """Replace the two steps of Flower's loop by these."""
    from flwr.supernode import start_client_internal as flower

    module: Any = flower
    module._pull_and_store_message, module._push_messages = fetch, send


def run_supernode(heartbeat: Callable[[Callable[[], bool]], HeartbeatSender]) -> None:
    """Run ``flower-supernode``; `heartbeat` wraps the function that sends a heartbeat."""
    from flwr.supernode import fleet_http_connection
    from flwr.supernode.cli.flower_supernode import flower_supernode

    vars(fleet_http_connection)["HeartbeatSender"] = heartbeat
    flower_supernode()


class NodeMemory:
    """A SuperNode's memory: messages, the tasks they became, and their contents."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def unfinished(self) -> list[Any]:
        """Return the tasks that have not ended."""
        return list(self._state.get_tasks(statuses=UNFINISHED))

    def begun(self) -> bool:
        """Return whether a process works on a task."""
        return any(task.status.status == Status.RUNNING for task in self.unfinished())

    def replies(self) -> list[Message]:
        """Return the stored answers."""
        kept = [entry.message for entry in self._state.msg_store.values()]
        return [message for message in kept if message.metadata.reply_to_message_id]

    def drop_other_replies(self, message: Message) -> None:
        """Forget answers to any other message."""
        asked = message.metadata.message_id
        stale = [r.metadata.message_id for r in self.replies() if r.metadata.reply_to_message_id != asked]
        self._state.delete_messages(message_ids=stale)

    def put(self, reply: Message, object_store: Any) -> None:
        """Store an answer, as the task's process does."""
        from flwr.supernode.start_client_internal import _insert_message

        _insert_message(reply, self._state, object_store)

    def clear(self) -> bool:
        """Delete all messages, tasks and contents and invalidate the tasks' tokens; return whether that succeeded."""
        for task in self.unfinished():
            self._state.finish_task(task.task_id, SubStatus.FAILED, "dropped")
        self._state.delete_messages()
        self._state.object_store.clear()
        return not self.unfinished()
