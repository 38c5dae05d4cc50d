"""The in-process grid with its virtual nodes in worker processes, so that hospitals of a round work side by side.

Every node has one worker for the whole run, which keeps its model in memory, as one process would. Replies are fetched
in the order in which the messages were sent, so the sums of a round, and the run, are those of one process, bit by bit.
"""

import os
from collections.abc import Callable, Iterable
from queue import Queue, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Self

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from typing_extensions import override

from remind.config import Scalar
from remind_server.simulation.local_grid import LocalGrid
from remind_server.simulation.workers import Workers

AHEAD = 2  # replies of a worker that wait in memory for their turn; it rests after that
DIED = "the process of this hospital was killed (for lack of memory?); another one takes its place"


class WorkerGrid(LocalGrid):
    """A grid of `nodes` virtual nodes in `jobs` worker processes; close it, or use it as a context.

    Parameters
    ----------
    client
        The reference of a ClientApp, ``module:attribute``; the workers load it.
    load
        A function that a process calls once, before the workers are forked from it: what it loads they share.
    """

    def __init__(
        self, client: str, nodes: int, run_config: dict[str, Scalar], run_id: int, jobs: int, load: Callable[[], object]
    ) -> None:
        super().__init__(ClientApp(), nodes, run_config, run_id)
        self._workers = Workers(client, run_id, min(jobs, nodes), load)
        lanes = [_Lane(self._workers, number) for number in range(min(jobs, nodes))]
        self._lanes = {node: lanes[place % len(lanes)] for place, node in enumerate(self._contexts)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, whatever they do."""
        self._workers.end()

    @override
    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Give each message to its node's worker and return the ids."""
        ids = list(super().push_messages(messages))
        for message_id in ids:
            message = self._outbox[message_id]
            self._lane(message).push(message_id, message, self._contexts[message.metadata.dst_node_id])
        return ids

    @override
    def _work(self, message: Message) -> Message:
        return self._lane(message).reply(message.metadata.message_id, message)

    def _lane(self, message: Message) -> "_Lane":
        return self._lanes[message.metadata.dst_node_id]


class _Lane:
    """The messages of one worker, one after the other."""

    def __init__(self, workers: Workers, number: int) -> None:
        self._workers, self._number = workers, number
        self._todo: SimpleQueue[tuple[str, Message, Context]] = SimpleQueue()
        self._done: Queue[tuple[str, Message | None]] = Queue(AHEAD)
        self._early: dict[str, Message | None] = {}
        Thread(target=self._run, daemon=True, name=f"worker {number}").start()

    def push(self, message_id: str, message: Message, context: Context) -> None:
        self._todo.put((message_id, message, context))

    def reply(self, message_id: str, message: Message) -> Message:
        """Wait for the reply to a message."""
        while message_id not in self._early:
            found, reply = self._done.get()
            self._early[found] = reply
        known = self._early.pop(message_id)
        return Message(Error(2, DIED), reply_to=message) if known is None else known

    def _run(self) -> None:
        while True:
            message_id, message, context = self._todo.get()
            self._done.put((message_id, self._workers.ask(self._number, (message, context))))


def side_by_side(jobs: int) -> int:
    """Return the number of worker processes: `jobs`, or one per core for 0."""
    return jobs or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
