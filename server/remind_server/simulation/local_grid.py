"""A Flower Grid in one process: the same messages and the same client code, without Ray and without a network."""

from collections.abc import Callable, Iterable
from itertools import count

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from typing_extensions import override

from remind.config import Scalar
from remind_server.flower_internals import NodeInfo, Run, set_identity, set_message_id
from remind_server.rounds.clock import Clock, SimulatedClock

SUPERLINK_NODE_ID, FIRST_NODE_ID = 1, 2
EXPIRED = Error(3, "Error: Message Unavailable - the message's ttl is over, and its answer went with it.")


def at_once(message: Message) -> float:
    """Return 0 for every message: hospitals that are simulated one after the other are never late."""
    del message
    return 0.0


class LocalGrid(Grid):
    """A grid of `nodes` virtual nodes, which run `client` one after the other when their replies are fetched.

    Tensors are bytes in a Flower record, so nothing is shared by reference between coordinator and sites. Messages age
    by the grid's own clock. As at a SuperLink, a message and its answer are removed when its ttl has passed.

    Parameters
    ----------
    seconds_to_answer
        Function of a message: seconds by `clock` until it is answered; infinity: never.
    clock
        Clock that measures deadlines.
    """

    def __init__(
        self,
        client: ClientApp,
        nodes: int,
        run_config: dict[str, Scalar],
        run_id: int,
        seconds_to_answer: Callable[[Message], float] = at_once,
        clock: Clock | None = None,
    ) -> None:
        set_identity(run_id, SUPERLINK_NODE_ID)
        self._client = client
        self._seconds_to_answer = seconds_to_answer
        self.clock = SimulatedClock() if clock is None else clock
        self._sent: dict[str, float] = {}
        self._contexts = {
            node + FIRST_NODE_ID: Context(
                run_id=run_id,
                node_id=node + FIRST_NODE_ID,
                node_config={"partition-id": node, "num-partitions": nodes},
                state=RecordDict(),
                run_config=run_config,
            )
            for node in range(nodes)
        }
        self._outbox: dict[str, Message] = {}
        self._ids = count(1)

    def set_run(self, run: Run) -> None:
        """Do nothing: the run is given at construction."""

    @property
    def run(self) -> Run:
        """Raise an error: without a SuperLink there is no Run."""
        raise NotImplementedError("an in-process grid has no SuperLink, so it has no Run")

    @override
    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the virtual nodes."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the virtual nodes, without names."""
        return [NodeInfo(node_id=node_id) for node_id in self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages and return their ids."""
        ids = []
        for message in messages:
            message_id = str(next(self._ids))
            set_message_id(message, message_id)
            self._outbox[message_id] = message
            self._sent[message_id] = self.clock.now()
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the client on the queued messages of these ids and return the replies that have arrived by now."""
        return [reply for i in message_ids if i in self._outbox and (reply := self._look(i)) is not None]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push messages, wait for `timeout` seconds of the grid's clock, then pull replies."""
        ids = list(self.push_messages(messages))
        self.clock.sleep(timeout or 0.0)
        return self.pull_messages(ids)

    def _look(self, message_id: str) -> Message | None:
        message = self._outbox[message_id]
        age = self.clock.now() - self._sent[message_id]
        if age >= message.metadata.ttl:
            return Message(EXPIRED, reply_to=self._outbox.pop(message_id))
        if age < self._seconds_to_answer(message):
            return None
        return self._work(self._outbox.pop(message_id))

    def _work(self, message: Message) -> Message:
        try:
            return self._client(message, self._contexts[message.metadata.dst_node_id])
        except Exception as error:  # a client's exception is an error reply, as in every other engine
            return Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)
