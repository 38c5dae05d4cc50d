"""Grids in place of Flower's: over sites in this process, or of nodes that answer late, never, or with anything."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrolment
from remind.version import VERSION
from remind_client.app import client_app
from remind_client.rounds.site import Site
from remind_server.simulation.local_grid import EXPIRED, LocalGrid, at_once


class SiteGrid(LocalGrid):
    """An in-process grid over `Site` objects made by a test, in place of virtual hospitals."""

    def __init__(self, sites: Sequence[Site], seconds_to_answer: Callable[[Message], float] = at_once) -> None:
        app = client_app(lambda context: sites[int(context.node_config["partition-id"])])
        super().__init__(app, len(sites), {}, run_id=1, seconds_to_answer=seconds_to_answer)


class WireGrid(SiteGrid):
    """A grid that keeps what every site answered; `lost` says which answers do not arrive.

    Attributes
    ----------
    answers
        The request's type, the answer, and its tensors.
    """

    def __init__(self, sites: Sequence[Site], lost: Callable[[Message], bool] = lambda message: False) -> None:
        super().__init__(sites, lambda message: float("inf") if lost(message) else 0.0)
        self.answers: list[tuple[str, Any, Any]] = []

    def _work(self, message: Message) -> Message:
        reply = super()._work(message)
        self.answers.append((message.metadata.message_type, *from_record(reply.content)))
        return reply


class KnownAnswers(SiteGrid):
    """A grid for many runs in which most sites are asked the same: an answer that an earlier run got is not made again.

    A site's answer follows from its settings and from all that it was asked (tests/server/rounds/test_resume.py). A
    site that is asked something new does first the work of what it was asked before.

    Parameters
    ----------
    known
        The answers of all runs: by the settings, the site, and all that it was asked.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        known: dict[str, RecordDict],
        seconds_to_answer: Callable[[Message], float] = at_once,
    ) -> None:
        super().__init__(sites, seconds_to_answer)
        self._known = known
        self._asked: dict[int, list[Message]] = {node: [] for node in self._contexts}  # and not worked on
        self._history = {
            node: f"{site.config.model_dump_json()} {site.name}"
            for node, site in zip(self._contexts, sites, strict=True)
        }

    def _work(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        request, buffer = from_record(message.content)
        asked = f"{self._history[node]}\n{message.metadata.message_type} {request.model_dump_json()}"
        self._history[node] = history = sha256(asked.encode() + buffer.tobytes()).hexdigest()
        self._asked[node].append(message)
        if history not in self._known:
            *before, newest = self._asked[node]
            for earlier in before:
                super()._work(earlier)
            self._asked[node].clear()
            self._known[history] = super()._work(newest).content
        return Message(self._known[history], reply_to=message)


@dataclass
class Node:
    """A node: what it answers, after how many looks, and whether a message can be handed over at all."""

    answer: Callable[[Message], RecordDict] | RecordDict | Error | None = None
    looks: int = 0
    name: str = ""
    reachable: bool = True
    received: list[Message] = field(default_factory=list)


class FakeGrid(LocalGrid):
    """A script determines the replies of the nodes; `broken` calls of the transport raise before it works."""

    def __init__(self, nodes: dict[int, Node], broken: int = 0) -> None:
        super().__init__(None, 0, {}, run_id=1)
        self.nodes, self.broken, self.pulled = nodes, broken, []

    def get_node_ids(self) -> Iterable[int]:
        return [info.node_id for info in self.get_nodes()]

    def get_nodes(self) -> Iterable[NodeInfo]:
        self._transport()
        return [NodeInfo(node_id=node_id, name=node.name) for node_id, node in self.nodes.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._transport()
        return [id_ for m in messages for id_ in super(FakeGrid, self).push_messages([m]) if self._of(m).reachable]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self._transport()
        return [reply for id_ in message_ids if (reply := self._reply(id_)) is not None]

    def _reply(self, message_id: str) -> Message | None:
        message = self._outbox.get(message_id)
        if message is None:
            return None
        node = self._of(message)
        if self.clock.now() - self._sent[message_id] >= message.metadata.ttl:
            return Message(EXPIRED, reply_to=self._outbox.pop(message_id))
        if node.answer is None or node.looks > 0:
            node.looks -= 1
            return None
        del self._outbox[message_id]
        node.received.append(message)
        self.pulled.append(message.metadata.dst_node_id)
        content = node.answer(message) if callable(node.answer) else node.answer
        if isinstance(content, Error):
            return Message(content, reply_to=message)
        return Message(content, reply_to=message)

    def _of(self, message: Message) -> Node:
        return self.nodes[message.metadata.dst_node_id]

    def _transport(self) -> None:
        if self.broken > 0:
            self.broken -= 1
            raise ConnectionError("HTTP 500")


def enrolment(site: str, schema, counts, **changes) -> RecordDict:
    """Record with which a site enrols."""
    content = {
        "site": site,
        "version": VERSION,
        "cohort_schema": schema.describe(),
        "fingerprint": schema.fingerprint,
        "counts": counts,
        "observed": tuple(counts),
    }
    return to_record(Enrolment(**(content | changes)))
