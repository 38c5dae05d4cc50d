"""One task of the SuperNode: what Flower's ``flwr-clientapp`` does, with the door in its place.

Flower's own function unpacks the bundle and imports the app before anything can look at them, then ends. Here
the bundle stays in memory until the door has let it in, and the process may go on to the next task. Written for
flwr 1.41 (`flwr/supernode/runtime/run_clientapp.py`), whose pulling and pushing it uses.
"""

import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.cli.install import install_from_fab
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.common.args import try_obtain_flwr_app_token
from flwr.common.constant import SubStatus
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.object_ref import load_app
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.tls import validate_and_resolve_root_certificates
from flwr.supernode.cli.flwr_clientapp import _parse_args_run_flwr_clientapp
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from remind.quoting import quoted
from remind_client.launcher.door import Door
from remind_client.policy.bundle import OURS, Bundle

log = logging.getLogger(__name__)
PATIENCE = 60.0  # seconds of trying to reach a SuperNode that is gone


class TaskStopped(BaseException):
    """The SuperNode no longer wants this task: its run was stopped, or its token has expired."""


@dataclass(frozen=True)
class TaskCall:
    """The arguments Flower calls ``flwr-clientapp`` with, as far as they matter here.

    Installing an app's dependencies at run time is none of them: a site runs what its administrator installed.
    """

    address: str
    token: str
    certificates: bytes | None
    insecure: bool

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "TaskCall":
        """The call in a list of command-line arguments.

        Raises
        ------
        SystemExit
            If they are not Flower's.
        """
        given = _parse_args_run_flwr_clientapp().parse_args(list(arguments))
        certificates = validate_and_resolve_root_certificates(given.root_certificates, given.insecure)
        return cls(given.runtime_api_address, try_obtain_flwr_app_token(given), certificates, given.insecure)


def run_task(call: TaskCall, door: Door) -> bool:
    """Do one task; whether an answer (a refusal is one) went back.

    Must run in the main thread: Flower stops a task by SIGINT to its process.
    """
    retry = make_simple_http_retry_invoker()
    retry.max_time = PATIENCE  # else a SuperNode that is gone would hold the worker for ever
    client = RuntimeHttpClient.from_server_address(
        server_address=call.address,
        insecure=call.insecure,
        root_certificates=call.certificates,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            RuntimeTokenHttpInterceptor(call.token),
        ],
        retry_invoker=retry,
    )
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    context = None
    status, details = SubStatus.FAILED, "the task could not be started; the site's own log says why"
    try:
        with _stoppable():
            heartbeat.start()
            message, context, run, fab = pull_task_input(client)
            log.info("run %s: %s", run.run_id, quoted(message.metadata.message_type))
            with tempfile.TemporaryDirectory(prefix="remind-app-") as folder:
                reply = door.answer(fab.content, message, context, lambda b: load(b, fab.content, Path(folder)))
                details = "the answer could not be sent; the site's own log says why"
                push_message(client, reply, context)
            status, details = SubStatus.COMPLETED, ""
    except TaskStopped:
        log.warning("the task was stopped")
    except RunNotRunningException:
        log.warning("the run is over; its task is dropped")
    except Exception:  # the text of an exception must not reach the coordinator through the task's details
        log.exception("the task failed")
    finally:
        retry.max_tries = 1
        with suppress(Exception, RunNotRunningException):  # the SuperNode notices without it, only later
            push_task_output(client, context, status, details)
        if heartbeat.is_running:
            heartbeat.stop()
        client.close()
    return status == SubStatus.COMPLETED


def load(bundle: Bundle, content: bytes, folder: Path) -> ClientApp:
    """The app of a bundle that the door let in: ours as installed, another one's unpacked into `folder`."""
    if bundle.component == OURS and not bundle.code:
        from remind_client.app import app as ours

        return ours
    app = load_app(
        bundle.component, LoadClientAppError, install_from_fab(content, install_dir=folder, skip_prompt=True)
    )
    if not isinstance(app, ClientApp):
        raise LoadClientAppError(f"{bundle.component} is no ClientApp")
    return app


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within: SIGINT raises `TaskStopped`. After: as before."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TaskStopped

    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a task runs in the main thread")
    before: Any = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def set_up_logging() -> None:
    """Our log lines on standard error, one stream with the SuperNode's."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per call otherwise
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
