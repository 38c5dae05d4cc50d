"""Worker processes of a simulation: forked from one that has loaded the patients, so that all of them share these.

The process that forks them is a new one and has run nothing in parallel, because a fork of a process with threads
may hang. A worker that dies is replaced by one that loads the patients itself.
"""

import contextlib
import gc
import importlib
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from remind_server.flower_internals import set_identity

Load = Callable[[], object]
SUPERLINK_NODE_ID = 1


class Workers:
    """`number` processes that answer messages with a ClientApp.

    Parameters
    ----------
    client
        Its reference.
    load
        Called before the fork; pickled.
    """

    def __init__(self, client: str, run_id: int, number: int, load: Load) -> None:
        self._client, self._run_id, self._load = client, run_id, load
        self._context = get_context("spawn")
        self._ended = False
        pairs = [self._context.Pipe() for _ in range(number)]
        self._ours = [ours for ours, _ in pairs]
        self._pids = [0] * number
        self._begin([theirs for _, theirs in pairs])

    def ask(self, number: int, message: tuple[Message, Context]) -> Message | None:
        """Return a worker's reply to a message; None if it died over it, and then another one is started."""
        try:
            if not self._pids[number]:
                self._pids[number] = int(self._ours[number].recv())
            self._ours[number].send(message)
            reply: Message = self._ours[number].recv()
        except (EOFError, OSError):
            if not self._ended:
                self._replace(number)
            return None
        return reply

    def end(self) -> None:
        """End all workers."""
        self._ended = True
        for number, ours in enumerate(self._ours):
            if not self._pids[number]:
                with contextlib.suppress(EOFError, OSError):
                    self._pids[number] = int(ours.recv()) if ours.poll(0) else 0
            if self._pids[number]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pids[number], signal.SIGTERM)
            ours.close()

    def _replace(self, number: int) -> None:
        self._ours[number].close()
        self._ours[number], theirs = self._context.Pipe()
        self._pids[number] = 0
        self._begin([theirs])

    def _begin(self, theirs: Sequence[Connection]) -> None:
        words = (self._client, self._run_id, list(theirs), self._load)
        self._context.Process(target=_fork, args=words).start()
        for one in theirs:
            one.close()


def _fork(client: str, run_id: int, connections: list[Connection], load: Load) -> None:
    """Load, then fork a worker for each connection, and wait for them."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator ends them
    torch.set_num_threads(1)  # until the fork
    module, _, attribute = client.partition(":")
    app: ClientApp = getattr(importlib.import_module(module), attribute)
    with contextlib.suppress(Exception):  # a hospital says what is wrong with its patients when it is asked
        load()
    gc.freeze()  # the collector would write to what is shared
    set_identity(run_id, SUPERLINK_NODE_ID)
    for number, connection in enumerate(connections):
        if os.fork() == 0:
            for other in connections[:number] + connections[number + 1 :]:
                other.close()
            _serve(app, connection)
    for connection in connections:
        connection.close()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _serve(app: ClientApp, connection: Connection) -> None:
    """Answer messages until the coordinator is gone."""
    contexts: dict[int, Context] = {}
    code = 0
    try:
        connection.send(os.getpid())
        while True:
            message, context = connection.recv()
            connection.send(_answer(app, message, contexts.setdefault(context.node_id, context)))
    except (EOFError, OSError):
        pass
    except BaseException:
        code = 1
        raise
    finally:
        os._exit(code)


def _answer(app: ClientApp, message: Any, context: Context) -> Message:
    try:
        return app(message, context)
    except Exception as error:  # as in `LocalGrid`
        return Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)
